#include "engine/machines/emulated_machine.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include <fmt/format.h>

#include "engine/assert.h"
#include "engine/error.h"
#include "engine/machines/host_tier.h"
#include "engine/machines/lane_simulation.h"
#include "engine/machines/layer_routing.h"
#include "engine/machines/operation_costs.h"
#include "engine/model/expert_versions.h"
#include "engine/model/model.h"

namespace expertscope {
namespace {

// Order of copies on a link.
constexpr std::uint8_t kActivationClass = 0, kDemandClass = 1;
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
    arrived_.resize(table_.size(), 0);
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
    info.h2d_bytes_per_s = profile.unified_memory ? 0 : profile.link.h2d_bytes_per_s;
    info.gpu_bytes_per_s = profile.gpus[0].memory_bytes_per_s;
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
    if (!host_tier_) return;
    const CopyRecord& copy = payloads_[simulation_.find(t).payload].copy;
    const Ticket read = arrived_[static_cast<std::size_t>(copy.layer * shape_.experts + copy.expert)];
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
  LayerRoutes revise(std::span<const RouteRecord> executed) override;
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
  Ticket in_host_memory(ExpertId id, Precision precision, CopyReason reason);
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
  std::uint32_t copies_ = 0;

  std::vector<Payload> payloads_;
  std::vector<std::uint32_t> free_payloads_;

  std::optional<HostTier> host_tier_;  // none: every expert is in host memory
  std::vector<Ticket> arrived_;        // by expert: the last read from storage

  // The step and layer in work.
  std::uint32_t step_ = 0;
  std::vector<TokenInput> tokens_;
  RouterRequest request_;
  std::vector<RouteRecord> given_, routes_;
  std::vector<RouteRecord> executed_;  // what runs; empty: the routes
  DemandGroups groups_, executed_groups_;
  std::span<Demand> truth_, demands_;
  TimeNs asked_ns_ = 0;
  bool cpu_runs_ = false;  // an expert of this layer is on the CPU already
  Ticket router_ = 0, combine_ = 0, head_ = 0, activations_out_ = 0;
  WorkKind host_work_ = WorkKind::policy;
  std::vector<float> gate_logits_;
};

// --- memory

MemoryUse EmulatedMachine::memory() const {
  MemoryUse m = costs_.memory({.staging = staging_slots_, .sequences = sequences_});
  m.experts_bytes = slot_bytes_charged_;
  m.gpu_peak_bytes += slot_bytes_charged_;
  m.gpu_peak_bytes = std::max(peak_bytes_, m.gpu_peak_bytes);
  return m;
}

void EmulatedMachine::prepare(Precision precision) {
  auto& versions = versions_[static_cast<std::size_t>(precision)];
  if (precision == Precision::native || model_ == nullptr || versions != nullptr) return;
  auto made = std::make_unique<ExpertVersions>(*model_, precision);
  for (int l = 0; l < shape_.layers; ++l) {
    if (made->layout(l).bytes <= slot_bytes_) continue;
    throw InputError(fmt::format("the policy wants experts in {}, which is above the precision of this model's file: "
                                 "choose a lower precision or another file",
                                 name(precision)));
  }
  versions = std::move(made);
}

std::vector<SlotId> EmulatedMachine::add_slots(int device, int count, bool staging, Precision precision) {
  std::vector<SlotId> added;
  for (std::size_t i = 0; added.size() < static_cast<std::size_t>(count); ++i) {
    if (i == slots_.size()) slots_.emplace_back();
    if (slots_[i].in_use) continue;
    slots_[i] = {.bytes = arithmetic_ != nullptr ? AlignedBytes(slot_bytes_) : AlignedBytes(),
                 .device = static_cast<std::uint8_t>(device),
                 .precision = precision,
                 .staging = staging,
                 .in_use = true};
    added.push_back(static_cast<SlotId>(i));
  }
  if (staging)
    staging_slots_ += count;
  else
    slot_bytes_charged_ += count * costs_.expert_bytes(precision);
  peak_bytes_ = memory().gpu_peak_bytes;
  return added;
}

void EmulatedMachine::remove_slot(SlotId slot) {
  Slot& s = slots_[slot];
  ES_ASSERT(s.in_use, "removes a slot that does not exist");
  if (s.staging)
    --staging_slots_;
  else
    slot_bytes_charged_ -= costs_.expert_bytes(s.precision);
  s = {};
}

// --- queueing

std::uint32_t EmulatedMachine::keep(const Payload& payload) {
  if (free_payloads_.empty()) {
    payloads_.push_back(payload);
    return static_cast<std::uint32_t>(payloads_.size() - 1);
  }
  const std::uint32_t i = free_payloads_.back();
  free_payloads_.pop_back();
  payloads_[i] = payload;
  return i;
}

Ticket EmulatedMachine::queue_gpu(WorkKind kind, int layer, Work work, std::span<const Ticket> after) {
  catch_up();
  Payload p;
  p.work = {.bytes = work.bytes,
            .flops = work.flops,
            .step = step_,
            .layer = layer < 0 ? kNone16 : static_cast<std::uint16_t>(layer),
            .tokens = static_cast<std::uint16_t>(tokens_.size()),
            .kind = kind,
            .lane = Lane::gpu};
  LaneOp op = costs_.on_gpu(kind, work);
  op.payload = keep(p);
  const Ticket ticket = simulation_.add(std::move(op), after.data(), after.size());
  spend_on_host(WorkKind::routing_sync, costs_.issue_ns(kind));
  return ticket;
}

Payload EmulatedMachine::expert_payload(const Demand& demand, Work work, Lane lane, Precision precision) const {
  Payload p;
  p.work = {.bytes = work.bytes,
            .flops = work.flops,
            .step = step_,
            .layer = demand.expert.layer,
            .expert = demand.expert.expert,
            .tokens = static_cast<std::uint16_t>(demand.rows.size()),
            .kind = WorkKind::expert,
            .lane = lane,
            .precision = precision};
  p.demand = &demand;
  return p;
}

Ticket EmulatedMachine::queue_gpu_expert(const Demand& demand, SlotId slot, Ticket after, Precision precision,
                                         bool joins_the_last) {
  const Work work = costs_.expert(demand.rows.size(), precision);
  Payload p = expert_payload(demand, work, Lane::gpu, precision);
  p.slot = slot;
  LaneOp op = costs_.on_gpu(WorkKind::expert, work);
  if (joins_the_last) op.fixed_ns = 0;
  op.payload = keep(p);
  return simulation_.add(std::move(op), &after, 1);
}

Ticket EmulatedMachine::copy_expert(const ExpertCopy& request) {
  catch_up();
  Payload p;
  p.is_copy = true;
  p.copy = {.issued_ns = host_now_,
            .step = step_,
            .copy = copies_++,
            .layer = request.expert.layer,
            .expert = request.expert.expert,
            .slot = request.slot,
            .reason = request.reason,
            .lane = Lane::h2d,
            .device = request.device,
            .precision = request.precision};
  p.slot = request.slot;
  p.publish = request.publish;
  LaneOp op = costs_.expert_copy(request.precision);
  op.device = request.device;
  if (simulation_.is_idle(op.lane, op.device)) op.fixed_ns += static_cast<double>(costs_.idle_link_ns());
  op.copy_class = copy_class(request.reason);
  op.payload = keep(p);
  const Ticket after[2] = {request.after, in_host_memory(request.expert, request.precision, request.reason)};
  return simulation_.add(std::move(op), after, 2);
}

// The read from storage that brings an expert into host memory; 0 when it is there. With unified memory a slot is where
// it is read to, so that every copy is such a read.
Ticket EmulatedMachine::in_host_memory(ExpertId id, Precision precision, CopyReason reason) {
  if (!host_tier_) return 0;
  Ticket& arrived = arrived_[static_cast<std::size_t>(id.layer * shape_.experts + id.expert)];
  if (host_tier_->use(id) && !costs_.profile().unified_memory) return is_done(arrived) ? 0 : arrived;
  Payload p;
  p.is_copy = true;
  p.copy = {.issued_ns = host_now_,
            .step = step_,
            .copy = copies_++,
            .layer = id.layer,
            .expert = id.expert,
            .reason = reason,
            .lane = Lane::storage,
            .precision = precision};
  LaneOp op = costs_.storage_read(precision);
  op.copy_class = copy_class(reason);
  op.payload = keep(p);
  arrived = simulation_.add(std::move(op), nullptr, 0);
  return arrived;
}

// Rows on their way to the CPU (d2h) or results back (h2d). No link, no copy.
Ticket EmulatedMachine::queue_activations(Lane lane, const Demand& demand, Ticket after) {
  if (costs_.profile().unified_memory) return after;
  const bool out = lane == Lane::d2h;
  // The step's inputs go out once for all experts of the layer; each expert's results come back on their own.
  const std::size_t rows = out ? tokens_.size() : demand.rows.size();
  Payload p;
  p.is_copy = true;
  p.copy = {.issued_ns = simulation_.now(),
            .step = step_,
            .copy = copies_++,
            .layer = demand.expert.layer,
            .expert = out ? kNone16 : demand.expert.expert,
            .reason = CopyReason::activation,
            .lane = lane};
  LaneOp op = costs_.activation_copy(lane, rows);
  op.copy_class = kActivationClass;
  op.payload = keep(p);
  return simulation_.add(std::move(op), &after, 1);
}

Ticket EmulatedMachine::expert_on_cpu(const Demand& demand, Precision precision) {
  return queue_cpu_expert(demand, precision, false);
}

Ticket EmulatedMachine::expert_on_cpu_early(const Demand& of_next_layer) {
  // The arithmetic is done now, while x_l is there; the time it takes is the lane's.
  const ExpertId id = of_next_layer.expert;
  if (arithmetic_ != nullptr) arithmetic_->expert_ahead(id.layer, model_->expert_blob(id), of_next_layer.rows);
  return queue_cpu_expert(of_next_layer, Precision::native, true);
}

Ticket EmulatedMachine::queue_cpu_expert(const Demand& demand, Precision precision, bool early) {
  catch_up();
  if (activations_out_ == 0) activations_out_ = queue_activations(Lane::d2h, demand, router_);
  const Work work = costs_.expert(demand.rows.size(), precision);
  Payload p = expert_payload(demand, work, Lane::cpu, precision);
  if (early) p.demand = nullptr;
  LaneOp op = costs_.on_cpu(work);
  if (cpu_runs_ && costs_.starts_together()) op.fixed_ns = 0;
  cpu_runs_ = true;
  op.payload = keep(p);
  const Ticket after[2] = {activations_out_, in_host_memory(demand.expert, precision, CopyReason::demand)};
  const Ticket computed = simulation_.add(std::move(op), after, 2);
  return queue_activations(Lane::h2d, demand, computed);
}

// --- a step

void EmulatedMachine::begin_step(const StepInput& input) {
  catch_up();
  simulation_.forget_done();
  step_ = input.step;
  tokens_.assign(input.tokens.begin(), input.tokens.end());
  queue_gpu(WorkKind::embed, -1, costs_.embed(tokens_.size()), {});
}

void EmulatedMachine::attention(int layer) {
  queue_gpu(WorkKind::attention, layer, costs_.attention(tokens_), {});
}

void EmulatedMachine::router(const RouterRequest& request) {
  request_ = request;
  given_.assign(request.given.begin(), request.given.end());
  executed_.assign(request.executed.begin(), request.executed.end());
  const int gates = (executed_.empty() ? 1 : 0) + request.lookahead_used;
  router_ = queue_gpu(WorkKind::router, request.layer, costs_.router(gates, tokens_.size()), {});
  activations_out_ = 0;
  cpu_runs_ = false;
  // Experts that are there are queued behind the router, before it is known which they are.
  if (request.start_resident) spend_on_host(WorkKind::routing_sync, costs_.issue_ns(WorkKind::expert));
}

LayerRoutes EmulatedMachine::wait_routes() {
  wait_and_sync(router_);
  return {.asked_ns = asked_ns_, .tokens = routes_, .truth = truth_, .demands = demands_};
}

LayerRoutes EmulatedMachine::revise(std::span<const RouteRecord> executed) {
  ES_ASSERT(!request_.start_resident, "revises what the device may have started");
  executed_.assign(executed.begin(), executed.end());
  demands_ = executed_groups_.group(request_.layer, shape_.experts, executed_);
  return {.asked_ns = asked_ns_, .tokens = routes_, .truth = truth_, .demands = demands_};
}

void EmulatedMachine::combine(int layer, std::span<const Ticket> experts) {
  combine_ = queue_gpu(WorkKind::combine, layer, costs_.combine(tokens_.size()), experts);
}

void EmulatedMachine::head() {
  const auto wanted = std::count_if(tokens_.begin(), tokens_.end(), [](const TokenInput& t) { return t.wants_logits; });
  if (wanted == 0) {
    head_ = combine_;
    return;
  }
  head_ = queue_gpu(WorkKind::head, -1, costs_.head(static_cast<std::size_t>(wanted)), {});
}

void EmulatedMachine::wait_and_sync(Ticket t) {
  wait(t);
  spend_on_host(WorkKind::routing_sync, costs_.sync_ns());
}

void EmulatedMachine::spend_on_host(WorkKind kind, TimeNs ns) {
  const TimeNs start = host_now_;
  host_now_ += ns;
  if (observer_ == nullptr || ns == 0) return;
  observer_->on_event(WorkRecord{.start_ns = start,
                                 .end_ns = host_now_,
                                 .step = step_,
                                 .tokens = static_cast<std::uint16_t>(tokens_.size()),
                                 .kind = kind,
                                 .lane = Lane::host});
}

// --- what the simulation tells

void EmulatedMachine::started(const LaneOp& op, TimeNs free_ns) {
  Payload& p = payloads_[op.payload];
  if (p.is_copy) {
    p.copy.start_ns = op.started_ns;
    // What is being overwritten must not be readable: a reader that does not wait finds NaN scales, not stale weights.
    if (arithmetic_ != nullptr && p.slot != kNone16 && op.work_at_start == op.work_ns) {
      const std::span<std::byte> bytes = slots_[p.slot].bytes.span();
      std::memset(bytes.data(), 0xff, std::min<std::size_t>(bytes.size(), 256));
    }
    return;
  }
  p.work.start_ns = op.started_ns;
  if (observer_ == nullptr || op.lane != Lane::gpu || op.last_dependency == 0 || op.started_ns <= free_ns) return;
  const LaneOp& waited = simulation_.find(op.last_dependency);
  const Payload& cause = payloads_[waited.payload];
  WorkRecord wait = p.work;
  wait.start_ns = free_ns;
  wait.end_ns = op.started_ns;
  wait.bytes = wait.flops = 0;
  wait.kind = cause.is_copy ? waiting_for(cause.copy.reason) : WorkKind::wait_activation;
  observer_->on_event(wait);
}

void EmulatedMachine::ran(const LaneOp& op, TimeNs end_ns, std::int64_t bytes, bool last) {
  Payload& p = payloads_[op.payload];
  if (p.is_copy) {
    p.copy.end_ns = end_ns;
    p.copy.bytes = bytes;
    p.copy.last = last;
    if (observer_ != nullptr) observer_->on_event(p.copy);
    return;
  }
  p.work.end_ns = end_ns;
  if (observer_ != nullptr) observer_->on_event(p.work);
}

void EmulatedMachine::completed(const LaneOp& op) {
  const Payload p = payloads_[op.payload];
  p.is_copy ? finish_copy(p) : finish_work(p);
  // A payload may be asked for as the cause of a wait by what starts next, so its place is reused only afterwards.
  free_payloads_.push_back(op.payload);
}

void EmulatedMachine::finish_copy(const Payload& p) {
  if (p.slot == kNone16) return;
  const ExpertId id{.layer = p.copy.layer, .expert = p.copy.expert};
  if (arithmetic_ != nullptr) {
    const std::span<const std::byte> blob = host_blob(id, p.copy.precision);
    std::memcpy(slots_[p.slot].bytes.data(), blob.data(), blob.size());
  }
  if (p.publish) entry(id) = p.slot;
}

void EmulatedMachine::finish_work(const Payload& p) {
  if (p.work.kind == WorkKind::router) {
    finish_router(p.work.end_ns);
    return;
  }
  if (arithmetic_ == nullptr) return;
  switch (p.work.kind) {
    case WorkKind::embed:
      arithmetic_->begin_step(tokens_);
      break;
    case WorkKind::attention:
      arithmetic_->attention(p.work.layer);
      break;
    case WorkKind::expert: {
      if (p.demand == nullptr) break;
      const ExpertId id = p.demand->expert;
      const ExpertBlobLayout& layout = layout_of(id.layer, p.work.precision);
      const std::span<const std::byte> blob =
          p.work.lane == Lane::cpu ? host_blob(id, p.work.precision)
                                   : slots_[p.slot].bytes.span().first(static_cast<std::size_t>(layout.bytes));
      arithmetic_->expert(id.layer, layout, blob, p.demand->rows);
      break;
    }
    case WorkKind::combine:
      for (std::size_t t = 0; t < tokens_.size(); ++t) {
        const RouteRecord& r = executed_.empty() ? routes_[t] : executed_[t];
        arithmetic_->combine(p.work.layer, static_cast<int>(t), {r.weight.data(), r.picks});
      }
      break;
    case WorkKind::head:
      arithmetic_->head();
      break;
    default:
      break;
  }
}

RouteRecord EmulatedMachine::make_route(int token) {
  const RouterRule& rule = model_->description().router;
  RouteRecord record = route_record(rule, step_, request_.layer, token, arithmetic_->router_logits(token));
  for (int d = 1; d <= request_.lookahead_recorded; ++d) {
    arithmetic_->lookahead_logits(request_.layer + d, token, gate_logits_);
    add_gate(rule, gate_logits_, record);
  }
  return record;
}

void EmulatedMachine::finish_router(TimeNs at) {
  asked_ns_ = at;
  if (given_.empty()) {
    ES_ASSERT(arithmetic_ != nullptr, "routes must be given when the arithmetic is switched off");
    arithmetic_->router(request_.layer);
    routes_.clear();
    for (std::size_t t = 0; t < tokens_.size(); ++t) routes_.push_back(make_route(static_cast<int>(t)));
  } else {
    routes_.swap(given_);
  }
  truth_ = demands_ = groups_.group(request_.layer, shape_.experts, routes_);
  if (!executed_.empty()) demands_ = executed_groups_.group(request_.layer, shape_.experts, executed_);
  if (!request_.start_resident) return;
  bool joins_the_last = false;
  for (Demand& d : demands_) {
    const SlotId slot = entry(d.expert);
    if (slot == kNone16) continue;
    d.started = queue_gpu_expert(d, slot, 0, Precision::native, joins_the_last);
    joins_the_last = costs_.starts_together();
  }
}

}  // namespace

RunShape run_shape(const ModelDescription& d, int max_step_tokens) {
  return {.layers = d.layers,
          .experts = d.router.experts,
          .top_k = d.router.top_k,
          .context = d.context,
          .max_step_tokens = max_step_tokens};
}

std::unique_ptr<Machine> make_emulated_machine(const MachineProfile& profile, const CostShape& cost,
                                               const RunShape& shape, const Model* model, Arithmetic* arithmetic) {
  ES_ASSERT((model == nullptr) == (arithmetic == nullptr), "a machine has both a model and its arithmetic, or neither");
  return std::make_unique<EmulatedMachine>(profile, cost, shape, model, arithmetic);
}

}  // namespace expertscope
