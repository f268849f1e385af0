// The machine with a real GPU, for its own files: everyone else makes one by engine/machines/cuda_machine.h. Its
// set-up, memory, copies and records are in cuda_machine.cu, the operations of a step in cuda_machine_step.cu.
#pragma once

#include <algorithm>
#include <array>
#include <deque>
#include <vector>

#include <emmintrin.h>

#include "engine/machines/cuda/copy_queue.h"
#include "engine/machines/cuda/cpu_experts.h"
#include "engine/machines/cuda/device.h"
#include "engine/machines/cuda/device_model.h"
#include "engine/machines/cuda/layer_picks.h"
#include "engine/machines/cuda/slots.h"
#include "engine/machines/cuda/timeline.h"
#include "engine/machines/cuda_machine.h"
#include "engine/machines/layer_routing.h"
#include "engine/machines/operation_costs.h"

namespace expertscope::cuda {

class CudaMachine final : public Machine {
 public:
  CudaMachine(const Model& model, ThreadPool& pool, const CudaOptions& options);
  ~CudaMachine() override;

  void describe(RunInfo&) const override;
  void set_observer(Observer* observer) override {
    // Who stops listening has heard of everything that was under way.
    if (observer_ != nullptr)
      spin_until([&] { return reading_.empty() && copies_.empty() && timeline_.empty(); }, "ending");
    observer_ = observer;
    copies_.set_observer(observer);
    timeline_.set_observer(observer);
    cpu_.set_observer(observer);
  }
  int gpus() const override { return 1; }
  TimeNs now() const override { return clock_.now(); }

  void ensure_fits(const SlotCounts&) const override;
  std::vector<SlotId> add_slots(int device, int count, bool staging, Precision) override;
  void prepare(Precision precision) override { host_.prepare(precision); }
  std::int64_t expert_bytes(Precision precision) const override { return slots_.slot_bytes(precision); }
  void remove_slot(SlotId slot) override { slots_.remove(slot); }
  MemoryUse memory() const override;

  Ticket copy_expert(const ExpertCopy&) override;
  void raise_copy(Ticket) override;
  bool cancel_copy(Ticket) override;
  void unpublish(ExpertId) override;
  bool is_done(Ticket) override;
  TimeNs wait(Ticket) override;

  void begin_step(const StepInput&) override;
  void attention(int layer) override;
  void router(const RouterRequest&) override;
  LayerRoutes wait_routes() override;
  bool can_revise() const override { return true; }
  LayerRoutes revise(std::span<const RouteRecord>, int padded_rows) override;  // pads nothing
  Ticket expert_on_gpu(const Demand&, SlotId, Ticket after, Precision) override;
  Ticket expert_on_cpu(const Demand&, Precision) override;
  Ticket expert_on_cpu_early(const Demand&) override;
  void combine(int layer, std::span<const Ticket>) override;
  void head() override;
  void wait_logits() override;
  std::span<const float> logits(int token) const override { return device_.logits(token); }
  void reset_sequence(int) override {}  // the cache is written from position 0 again
  void hold_sequences(int count) override;

  void begin_host_work(WorkKind kind) override {
    host_until(now());
    host_work_ = kind;
  }
  void end_host_work() override { host_record(host_work_, now()); }

  TimeNs completed_ns(Ticket t) const override { return tickets_.at(t); }
  TimeNs copy_cost_ns() const override { return static_cast<TimeNs>(copy_cost_ns_); }
  TimeNs gpu_expert_cost_ns(int rows) const override;
  TimeNs cpu_expert_cost_ns(int rows) const override { return static_cast<TimeNs>(cpu_.cost_ns() * std::max(1, rows)); }

 private:
  // Tells the observer what the launches in its scope are for.
  struct Launch {
    Launch(Observer* o, std::uint32_t step, int layer, WorkKind kind, std::uint16_t expert = kNone16) : observer(o) {
      if (observer == nullptr) return;
      observer->on_launch_begin({.step = step,
                                 .layer = layer < 0 ? kNone16 : static_cast<std::uint16_t>(layer),
                                 .expert = expert,
                                 .kind = kind});
    }
    ~Launch() {
      if (observer != nullptr) observer->on_launch_end();
    }
    Observer* observer;
  };
  // Where an expert that arrives for a step of several tokens runs: it alone would leave most of the device idle.
  // Urgent, so that its slot is free again soon.
  struct SideStream {
    cudaStream_t stream = nullptr;
    cudaEvent_t end = nullptr;
    bool used = false;  // since the last combine
  };
  static constexpr std::size_t kSideStreams = 4;
  cudaStream_t stream_of(int number) const {  // 0: the compute stream
    return number == 0 ? cudaStream_t{compute_} : side_[static_cast<std::size_t>(number - 1)].stream;
  }
  int next_side_stream();
  void join_side_streams();
  cudaEvent_t exchange_buffer(SlotId, Ticket reader);
  bool single() const { return tokens_.size() == 1; }
  // What the layer executes: the router's word unless a policy decided otherwise.
  const std::vector<RouteRecord>& executed() const { return executed_.empty() ? routes_ : executed_; }
  ExpertRun expert_run(int layer, Precision) const;
  Work expert_work(std::size_t rows, Precision) const;
  Stamp begin_expert(int layer, std::uint16_t expert, std::size_t rows, Precision, Ticket, Ticket after = 0,
                     WorkKind wait = WorkKind::wait_demand, int stream = 0);
  void finish_reads();
  Stamp begin_op(WorkKind, int layer, Work, std::size_t rows, std::uint16_t expert = kNone16, Ticket ticket = 0,
                 Ticket after = 0, WorkKind wait = WorkKind::wait_demand, int stream = 0);
  void poll();
  template <typename Ready>
  void spin_until(Ready ready, const char* what);
  void route_single();
  void route_several();
  RouteRecord make_route(const float* logits, int token) const;
  void note_started(std::span<Demand>);
  void start_decided();
  void start_resident_of_many();
  void execute(std::span<Demand>);
  void send_weights();
  void send_picks(const Slots* resident);
  int first_pick(const Demand& d) const { return static_cast<int>(d.rows.data() - rows_.data()); }
  void ask_cpu_input();
  void run_cpu_experts();
  void run_early_experts();
  void host_record(WorkKind, TimeNs until);
  void host_until(TimeNs t) { host_record(WorkKind::routing_sync, t); }

  const Model& model_;
  ThreadPool& pool_;
  Observer* observer_ = nullptr;
  std::optional<MachineProfile> calibrated_;
  cudaDeviceProp properties_{};
  Stream compute_;
  DeviceClock clock_;
  HostExperts host_;
  Tickets tickets_;
  Timeline timeline_;
  OperationCosts costs_;
  CpuExperts cpu_;
  DeviceModel device_;
  Slots slots_;
  CopyQueue copies_;
  cudaEvent_t routed_ = nullptr, logits_ready_ = nullptr;
  std::array<SideStream, kSideStreams> side_;
  std::size_t next_side_ = 0;
  cudaEvent_t picks_there_ = nullptr;
  std::vector<std::uint8_t> read_on_;   // by slot: the stream of the last expert_on_gpu
  std::deque<CopyQueue::Job> reading_;  // copies that wait for storage, in the order in which they were asked for
  std::vector<ExpertCopy> to_publish_;
  Precision published_precision_ = Precision::native;  // of all that is published
  std::uint32_t copy_count_ = 0;
  std::int64_t peak_bytes_ = 0;
  double h2d_bytes_per_s_ = 0, copy_cost_ns_ = 0;

  // The step and layer in work.
  std::uint32_t step_ = 0;
  std::vector<TokenInput> tokens_;
  RouterRequest request_;
  std::vector<RouteRecord> routes_;
  std::vector<RouteRecord> executed_;  // where a policy decided what runs; else empty
  DemandGroups groups_, executed_groups_;
  std::span<Demand> truth_, demands_;
  std::span<const Arithmetic::ExpertRow> rows_;  // of the demands, by expert
  TimeNs asked_ns_ = 0;
  Ticket started_ = 0;  // the experts that the device starts by itself
  std::uint32_t router_stamp_ = 0;
  bool summed_ = false;                      // the device added them all to x
  DeviceArray<std::uint64_t> table_copies_;  // [layer][expert]
  std::uint64_t mails_ = 0;
  MappedArray<std::uint64_t> mail_ready_;
  MappedArray<float> host_router_logits_;
  LayerPicks picks_;
  bool picks_sent_ = false;
  MappedArray<float> executed_weights_;  // [tokens][top_k]
  WorkKind host_work_ = WorkKind::policy;
  TimeNs host_mark_ = 0;
  bool wants_logits_ = false;
};

// Waits without sleeping; copies that wait are handed over meanwhile. A device that fails ends the wait.
template <typename Ready>
void CudaMachine::spin_until(Ready ready, const char* what) {
  for (std::uint32_t spins = 1; !ready(); ++spins) {
    if (spins % 16 == 0) poll();
    if (spins % 65536 == 0) {
      const cudaError_t state = cudaStreamQuery(compute_);
      if (state != cudaErrorNotReady) check(state, what);
    }
    _mm_pause();
  }
}

}  // namespace expertscope::cuda
