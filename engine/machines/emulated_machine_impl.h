// The emulated machine's class, for its source files alone. Internal to engine/machines/.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include <fmt/format.h>

#include "engine/assert.h"
#include "engine/error.h"
#include "engine/machines/emulated_machine.h"
#include "engine/machines/host_tier.h"
#include "engine/machines/lane_simulation.h"
#include "engine/machines/layer_routing.h"
#include "engine/machines/operation_costs.h"
#include "engine/machines/version_index.h"
#include "engine/model/expert_versions.h"
#include "engine/model/model.h"

namespace expertscope {

// Order of copies on a link.
inline constexpr std::uint8_t kActivationClass = 0, kDemandClass = 1;
constexpr std::uint8_t copy_class(CopyReason reason) {
  switch (reason) {
    case CopyReason::demand:
      return kDemandClass;
    case CopyReason::promotion:
      return 2;
    case CopyReason::prefetch:
      return 3;
    case CopyReason::placement:
      return 4;
    default:
      return kActivationClass;
  }
}

// What an operation of the simulation means.
struct Payload {
  bool is_copy = false;
  WorkRecord work;
  CopyRecord copy;
  SlotId slot = kNone16;           // read by an expert on the GPU, written by a copy
  bool publish = false;            // copies
  const Demand* demand = nullptr;  // experts: of the current layer; nullptr when computed early
};

class EmulatedMachine final : public Machine, private LaneEvents {
 public:
  EmulatedMachine(const MachineProfile& profile, const CostShape& cost, const RunShape& shape, const Model* model,
                  Arithmetic* arithmetic)
      : costs_(profile, cost, shape),
        shape_(shape),
        model_(model),
        arithmetic_(arithmetic),
        simulation_(*this, static_cast<int>(profile.gpus.size()), profile.host.memory_bytes_per_s,
                    profile.host.shared_memory_bytes_per_s),
        table_(static_cast<std::size_t>(shape.layers * shape.experts), kNone16) {
    if (model_ != nullptr) {
      for (const ExpertBlobLayout& blob : model_->description().expert_blob)
        slot_bytes_ = std::max(slot_bytes_, blob.bytes);
      gate_logits_.resize(static_cast<std::size_t>(shape.experts));
    }
    costs_.ensure_fits({});
    if (shape.host_bytes)
      host_tier_.emplace(shape.layers, shape.experts, costs_.shape().expert_bytes, *shape.host_bytes);
    arrived_.resize(kPrecisions.size() * table_.size(), 0);
    remote_.resize(profile.gpus.size());
  }

  void describe(RunInfo& info) const override {
    info.machine_kind = "emulated";
    const MachineProfile& profile = costs_.profile();
    info.profile_name = profile.name;
    info.profile_json = to_json(profile);
    info.cost_shape = costs_.shape().name;
    info.cost_shape_json = to_json(costs_.shape());
    info.label = arithmetic_ != nullptr ? Label::estimated : Label::simulated;
    info.gpus = gpus();
    info.expert_bytes = costs_.shape().expert_bytes;
    // Of all GPUs: what their links bring together, host memory must give.
    const double links = gpus() * profile.link.h2d_bytes_per_s;
    info.h2d_bytes_per_s = profile.unified_memory ? 0
                           : gpus() > 1           ? std::min(links, profile.host.memory_bytes_per_s)
                                                  : links;
    info.gpu_bytes_per_s = 0;
    for (const GpuProfile& gpu : profile.gpus) info.gpu_bytes_per_s += gpu.memory_bytes_per_s;
    info.memory = memory();
  }
  void set_observer(Observer* observer) override { observer_ = observer; }
  int gpus() const override { return static_cast<int>(costs_.profile().gpus.size()); }
  TimeNs now() const override { return host_now_; }

  // --- slots
  void ensure_fits(const SlotCounts& slots) const override { costs_.ensure_fits(slots); }
  std::vector<SlotId> add_slots(int device, int count, bool staging, Precision precision) override;
  void remove_slot(SlotId slot) override;
  MemoryUse memory() const override;
  void prepare(Precision precision) override;
  std::int64_t expert_bytes(Precision precision) const override { return costs_.expert_bytes(precision); }

  // --- copies
  Ticket copy_expert(const ExpertCopy& request) override;
  void raise_copy(Ticket t) override {
    catch_up();
    simulation_.change_class(t, kDemandClass);
    if (!host_tier_ || is_done(t)) return;  // what is done may be forgotten
    const CopyRecord& copy = payloads_[simulation_.find(t).payload].copy;
    const Ticket read = arrived({copy.layer, copy.expert}, copy.precision);
    if (!is_done(read)) simulation_.change_class(read, kDemandClass);
  }
  bool cancel_copy(Ticket t) override {
    catch_up();
    if (!simulation_.cancel(t)) return false;
    free_payloads_.push_back(simulation_.find(t).payload);
    return true;
  }
  void unpublish(ExpertId id) override { entry(id) = kNone16; }
  bool is_done(Ticket t) override {
    catch_up();
    return t == 0 || simulation_.done(t);
  }
  TimeNs wait(Ticket t) override {
    if (t == 0) return host_now_;
    catch_up();
    const TimeNs done = simulation_.run_until(t);
    host_now_ = std::max(host_now_, done);
    return done;
  }

  // --- a step
  void begin_step(const StepInput& input) override;
  void attention(int layer) override;
  void router(const RouterRequest& request) override;
  LayerRoutes wait_routes() override;
  Ticket expert_on_gpu(const Demand& demand, SlotId slot, Ticket after, Precision precision) override {
    catch_up();
    const Ticket ticket = queue_gpu_expert(demand, slot, after, precision);
    spend_on_host(WorkKind::routing_sync, costs_.issue_ns(WorkKind::expert));
    return ticket;
  }
  bool can_revise() const override { return true; }
  LayerRoutes revise(std::span<const RouteRecord> executed, int padded_rows) override;
  void send_rows(int device, std::size_t rows) override;
  Ticket expert_on_cpu(const Demand& demand, Precision precision) override;
  Ticket expert_on_cpu_early(const Demand& of_next_layer) override;
  void combine(int layer, std::span<const Ticket> experts) override;
  void head() override;
  void wait_logits() override { wait_and_sync(head_); }
  std::span<const float> logits(int token) const override {
    return arithmetic_ != nullptr ? arithmetic_->logits(token) : std::span<const float>{};
  }
  void reset_sequence(int sequence) override {
    if (arithmetic_ != nullptr) arithmetic_->reset_sequence(sequence);
  }

  void hold_sequences(int count) override {
    sequences_ = count;
    peak_bytes_ = memory().gpu_peak_bytes;
  }

  void begin_host_work(WorkKind kind) override { host_work_ = kind; }
  void end_host_work() override {
    spend_on_host(host_work_, host_work_ == WorkKind::policy ? costs_.policy_ns() : costs_.sampling_ns());
  }

  TimeNs completed_ns(Ticket t) const override { return simulation_.done_ns(t); }
  TimeNs copy_cost_ns() const override { return alone_ns(costs_.expert_copy()); }
  TimeNs gpu_expert_cost_ns(int rows) const override {
    return alone_ns(costs_.on_gpu(WorkKind::expert, costs_.expert(static_cast<std::size_t>(rows))));
  }
  TimeNs cpu_expert_cost_ns(int rows) const override {
    return alone_ns(costs_.on_cpu(costs_.expert(static_cast<std::size_t>(rows))));
  }

 private:
  static TimeNs alone_ns(const LaneOp& op) { return static_cast<TimeNs>(op.fixed_ns + op.work_ns + 0.5); }
  SlotId& entry(ExpertId id) { return table_[static_cast<std::size_t>(id.layer * shape_.experts + id.expert)]; }

  const ExpertBlobLayout& layout_of(int layer, Precision p) const {
    return p == Precision::native ? model_->blob_layout(layer) : versions_[static_cast<std::size_t>(p)]->layout(layer);
  }
  std::span<const std::byte> host_blob(ExpertId id, Precision p) const {
    return p == Precision::native ? model_->expert_blob(id) : versions_[static_cast<std::size_t>(p)]->blob(id);
  }

  // --- queueing
  void catch_up() { simulation_.advance_to(host_now_); }
  std::uint32_t keep(const Payload& payload);
  Ticket queue_gpu(WorkKind kind, int layer, Work work, std::span<const Ticket> after);
  Payload expert_payload(const Demand& demand, Work work, Lane lane, Precision precision) const;
  Ticket queue_gpu_expert(const Demand& demand, SlotId slot, Ticket after, Precision precision,
                          bool joins_the_last = false);
  Ticket queue_activations(Lane lane, const Demand& demand, Ticket after);
  Ticket queue_rows(LaneOp op, std::uint8_t device, Ticket after);
  Ticket send_between(std::uint8_t from, std::uint8_t to, std::size_t rows, Ticket after);
  Ticket in_host_memory(ExpertId id, Precision precision, CopyReason reason);
  Ticket& arrived(ExpertId id, Precision p) { return arrived_[version_index(id, p, shape_.layers, shape_.experts)]; }
  Ticket queue_cpu_expert(const Demand& demand, Precision precision, bool early);
  void wait_and_sync(Ticket t);
  void spend_on_host(WorkKind kind, TimeNs ns);

  // --- what the simulation tells
  void started(const LaneOp& op, TimeNs free_ns) override;
  void ran(const LaneOp& op, TimeNs end_ns, std::int64_t bytes, bool last) override;
  void completed(const LaneOp& op) override;
  void finish_work(const Payload& p);
  void finish_copy(const Payload& p);
  void finish_router(TimeNs at);
  RouteRecord make_route(int token);

  OperationCosts costs_;
  RunShape shape_;
  const Model* model_;
  Arithmetic* arithmetic_;
  Observer* observer_ = nullptr;
  LaneSimulation simulation_;
  TimeNs host_now_ = 0;

  struct Slot {
    AlignedBytes bytes;
    std::uint8_t device = 0;
    Precision precision = Precision::native;
    bool staging = false;
    bool in_use = false;
  };
  std::int64_t slot_bytes_ = 0;  // real bytes, of the model
  std::vector<Slot> slots_;
  std::vector<SlotId> table_;                                // device-side: where each expert can be read, kNone16
  std::array<std::unique_ptr<ExpertVersions>, 4> versions_;  // by precision
  int staging_slots_ = 0;
  int sequences_ = 1;                    // whose KV caches are held
  std::int64_t slot_bytes_charged_ = 0;  // of all other slots, by the cost shape
  std::int64_t peak_bytes_ = 0;
  std::int64_t work_bytes_ = 0;
  std::uint32_t copies_ = 0;

  std::vector<Payload> payloads_;
  std::vector<std::uint32_t> free_payloads_;

  std::optional<HostTier> host_tier_;  // none: every expert is in host memory
  std::vector<Ticket> arrived_;        // by precision, layer and expert: the last read from storage

  // The step and layer in work.
  std::uint32_t step_ = 0;
  std::vector<TokenInput> tokens_;
  RouterRequest request_;
  std::vector<RouteRecord> given_, routes_;
  std::vector<RouteRecord> executed_;  // what runs; empty: the routes
  std::vector<RouteRecord> combined_;  // the same of the last combine, whose weights it takes when it runs
  DemandGroups groups_, executed_groups_;
  std::span<Demand> truth_, demands_;
  TimeNs asked_ns_ = 0;
  bool cpu_runs_ = false;  // an expert of this layer is on the CPU already
  Ticket router_ = 0, combine_ = 0, head_ = 0, activations_out_ = 0;
  struct Remote {  // of the layer in work
    std::size_t rows = 0;
    Ticket arrived = 0;      // the rows
    Ticket last_expert = 0;  // that works on them
  };
  std::vector<Remote> remote_;  // by GPU; 0 is not used
  int padded_rows_ = 0;         // of every expert of the layer in work
  WorkKind host_work_ = WorkKind::policy;
  std::vector<float> gate_logits_;
};

}  // namespace expertscope
