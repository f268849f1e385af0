#include "engine/machines/emulated_machine.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include <fmt/format.h>

#include "engine/assert.h"
#include "engine/error.h"
#include "engine/machines/lane_simulation.h"
#include "engine/machines/layer_routing.h"
#include "engine/model/model.h"
#include "engine/model/routing.h"

namespace expertscope {
namespace {

constexpr double kNs = 1e9;

// Order of copies on a link.
constexpr std::uint8_t kActivationClass = 0, kDemandClass = 1;
constexpr std::uint8_t copy_class(CopyReason reason) {
  switch (reason) {
    case CopyReason::demand: return kDemandClass;
    case CopyReason::promotion: return 2;
    case CopyReason::prefetch: return 3;
    case CopyReason::placement: return 4;
    default: return kActivationClass;
  }
}

constexpr WorkKind waiting_for(CopyReason reason) {
  switch (reason) {
    case CopyReason::demand: return WorkKind::wait_demand;
    case CopyReason::prefetch:
    case CopyReason::promotion: return WorkKind::wait_prefetch;
    case CopyReason::placement: return WorkKind::wait_placement;
    default: return WorkKind::wait_activation;
  }
}

// What an operation of the simulation means.
struct Payload {
  bool is_copy = false;
  WorkRecord work;
  CopyRecord copy;
  SlotId slot = kNone16;       // read by an expert on the GPU, written by a copy
  bool publish = false;        // copies
  const Demand* demand = nullptr;  // experts: of the current layer
};

class EmulatedMachine final : public Machine, private LaneEvents {
 public:
  EmulatedMachine(const MachineProfile& profile, const CostShape& cost, const RunShape& shape, const Model* model, Arithmetic* arithmetic)
      : profile_(profile),
        cost_(cost),
        shape_(shape),
        model_(model),
        arithmetic_(arithmetic),
        simulation_(*this, static_cast<int>(profile.gpus.size()), profile.host.memory_bytes_per_s,
                    profile.host.shared_memory_bytes_per_s),
        table_(static_cast<std::size_t>(shape.layers * shape.experts), kNone16) {
    if (model_ != nullptr) {
      for (const ExpertBlobLayout& blob : model_->description().expert_blob) slot_bytes_ = std::max(slot_bytes_, blob.bytes);
      probabilities_.resize(static_cast<std::size_t>(shape.experts));
      gate_logits_.resize(static_cast<std::size_t>(shape.experts));
    }
    ensure_fits(0, 0);
  }

  void describe(RunInfo& info) const override {
    info.machine_kind = "emulated";
    info.profile_name = profile_.name;
    info.profile_json = to_json(profile_);
    info.cost_shape = cost_.name;
    info.cost_shape_json = to_json(cost_);
    info.label = arithmetic_ != nullptr ? Label::estimated : Label::simulated;
    info.gpus = gpus();
    info.expert_bytes = cost_.expert_bytes;
    info.h2d_bytes_per_s = profile_.unified_memory ? 0 : profile_.link.h2d_bytes_per_s;
    info.gpu_bytes_per_s = gpu_bytes_per_s();
    info.memory = memory();
  }
  void set_observer(Observer* observer) override { observer_ = observer; }
  int gpus() const override { return static_cast<int>(profile_.gpus.size()); }
  TimeNs now() const override { return host_now_; }

  // --- slots
  void ensure_fits(int slots, int staging_slots) const override;
  std::vector<SlotId> add_slots(int device, int count, bool staging) override;
  void remove_slot(SlotId slot) override;
  MemoryUse memory() const override;

  // --- copies
  Ticket copy_expert(const ExpertCopy& request) override;
  void raise_copy(Ticket t) override {
    catch_up();
    simulation_.change_class(t, kDemandClass);
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
  Ticket expert_on_gpu(const Demand& demand, SlotId slot, Ticket after) override {
    catch_up();
    return queue_gpu_expert(demand, slot, after);
  }
  Ticket expert_on_cpu(const Demand& demand) override;
  void combine(int layer, std::span<const Ticket> experts) override;
  void head() override;
  void wait_logits() override { wait_and_sync(head_); }
  std::span<const float> logits(int token) const override {
    return arithmetic_ != nullptr ? arithmetic_->logits(token) : std::span<const float>{};
  }
  void reset_sequence(int sequence) override {
    if (arithmetic_ != nullptr) arithmetic_->reset_sequence(sequence);
  }

  void begin_host_work(WorkKind kind) override { host_work_ = kind; }
  void end_host_work() override {
    const double seconds = host_work_ == WorkKind::policy ? profile_.host.policy_s : profile_.host.sampling_s;
    spend_on_host(host_work_, static_cast<TimeNs>(std::llround(seconds * kNs)));
  }

  TimeNs completed_ns(Ticket t) const override { return simulation_.done_ns(t); }
  TimeNs copy_cost_ns() const override {
    return profile_.unified_memory ? 0 : to_ns(profile_.link.latency_s + static_cast<double>(cost_.expert_bytes) / profile_.link.h2d_bytes_per_s);
  }
  TimeNs gpu_expert_cost_ns(int rows) const override {
    const LaneOp op = gpu_op(expert_bytes(rows), expert_flops(rows));
    return static_cast<TimeNs>(std::llround(op.fixed_ns + op.work_ns));
  }
  TimeNs cpu_expert_cost_ns(int rows) const override {
    return to_ns(profile_.host.task_s) + static_cast<TimeNs>(std::llround(cpu_work_ns(expert_bytes(rows), expert_flops(rows))));
  }

 private:
  static TimeNs to_ns(double seconds) { return static_cast<TimeNs>(std::llround(seconds * kNs)); }
  const GpuProfile& gpu() const { return profile_.gpus[0]; }
  double gpu_bytes_per_s() const { return gpu().memory_bytes_per_s; }
  SlotId& entry(ExpertId id) { return table_[static_cast<std::size_t>(id.layer * shape_.experts + id.expert)]; }

  // --- costs
  std::int64_t expert_bytes(int rows) const {
    return cost_.expert_bytes + static_cast<std::int64_t>(2.0 * cost_.width * sizeof(float)) * rows;
  }
  std::int64_t expert_flops(int rows) const { return static_cast<std::int64_t>(2 * cost_.expert_parameters) * rows; }
  double cpu_work_ns(std::int64_t bytes, std::int64_t flops) const {
    return kNs * std::max(static_cast<double>(bytes) / profile_.host.memory_bytes_per_s, static_cast<double>(flops) / profile_.host.flops_per_s);
  }
  LaneOp gpu_op(std::int64_t bytes, std::int64_t flops) const {
    LaneOp op;
    op.lane = Lane::gpu;
    op.fixed_ns = gpu().launch_s * kNs;
    op.work_ns = kNs * std::max(static_cast<double>(bytes) / gpu().memory_bytes_per_s, static_cast<double>(flops) / gpu().flops_per_s);
    return op;
  }

  // --- queueing
  void catch_up() { simulation_.advance_to(host_now_); }
  std::uint32_t keep(const Payload& payload);
  Ticket queue_gpu(WorkKind kind, int layer, std::int64_t bytes, std::int64_t flops, std::span<const Ticket> after);
  Ticket queue_gpu_expert(const Demand& demand, SlotId slot, Ticket after);
  Ticket queue_activations(Lane lane, const Demand& demand, Ticket after);
  void wait_and_sync(Ticket t);
  void spend_on_host(WorkKind kind, TimeNs ns);

  // --- what the simulation tells
  void started(const LaneOp& op, TimeNs free_ns) override;
  void ran(const LaneOp& op, TimeNs end_ns, std::int64_t bytes, bool last) override;
  void completed(const LaneOp& op) override;
  void finish_work(const Payload& p);
  void finish_copy(const Payload& p);
  void finish_router(TimeNs at);
  void fill_route(int token, RouteRecord& record);

  MachineProfile profile_;
  CostShape cost_;
  RunShape shape_;
  const Model* model_;
  Arithmetic* arithmetic_;
  Observer* observer_ = nullptr;
  LaneSimulation simulation_;
  TimeNs host_now_ = 0;

  struct Slot {
    AlignedBytes bytes;
    std::uint8_t device = 0;
    bool staging = false;
    bool in_use = false;
  };
  std::int64_t slot_bytes_ = 0;  // real bytes, of the model
  std::vector<Slot> slots_;
  std::vector<SlotId> table_;    // device-side: where each expert can be read, kNone16
  int expert_slots_ = 0, staging_slots_ = 0;
  std::int64_t peak_bytes_ = 0;
  std::uint32_t copies_ = 0;

  std::vector<Payload> payloads_;
  std::vector<std::uint32_t> free_payloads_;

  // The step and layer in work.
  std::uint32_t step_ = 0;
  std::vector<TokenInput> tokens_;
  RouterRequest request_;
  std::vector<RouteRecord> given_, routes_;
  DemandGroups groups_;
  std::span<Demand> demands_;
  TimeNs asked_ns_ = 0;
  Ticket router_ = 0, combine_ = 0, head_ = 0, activations_out_ = 0;
  WorkKind host_work_ = WorkKind::policy;
  std::vector<float> probabilities_, gate_logits_;
  std::vector<float> weights_;
};

// --- memory ---------------------------------------------------------------------------------------------------------------

MemoryUse EmulatedMachine::memory() const {
  MemoryUse m;
  const std::int64_t router_bytes = static_cast<std::int64_t>(cost_.width) * shape_.experts * 4;
  m.experts_bytes = expert_slots_ * cost_.expert_bytes;
  m.staging_bytes = staging_slots_ * cost_.expert_bytes;
  m.dense_bytes = shape_.layers * (cost_.attention_bytes + router_bytes) + cost_.head_bytes + cost_.embedding_bytes;
  m.kv_bytes = std::int64_t{shape_.layers} * shape_.context * cost_.kv_bytes_per_token;
  m.host_bytes = std::int64_t{shape_.layers} * shape_.experts * cost_.expert_bytes;
  m.gpu_peak_bytes = std::max(peak_bytes_, m.experts_bytes + m.staging_bytes + m.dense_bytes + m.kv_bytes);
  return m;
}

void EmulatedMachine::ensure_fits(int slots, int staging_slots) const {
  MemoryUse m = memory();
  m.experts_bytes = slots * cost_.expert_bytes;
  m.staging_bytes = staging_slots * cost_.expert_bytes;
  const auto gb = [](std::int64_t bytes) { return static_cast<double>(bytes) / 1e9; };
  const std::int64_t on_gpu = m.dense_bytes + m.kv_bytes + m.experts_bytes + m.staging_bytes;
  // With unified memory a slot is a view of the host store and takes nothing beside it.
  const std::int64_t on_host = m.host_bytes + (profile_.unified_memory ? m.dense_bytes + m.kv_bytes : 0);
  if (on_host > profile_.host.memory_bytes) {
    throw InputError(fmt::format("machine {}: the host store needs {:.2f} GB for {} experts of {} and host memory has {:.2f} GB: "
                                 "choose another machine or a smaller --cost-shape",
                                 profile_.name, gb(on_host), shape_.layers * shape_.experts, cost_.name, gb(profile_.host.memory_bytes)));
  }
  if (!profile_.unified_memory && on_gpu > gpu().memory_bytes) {
    throw InputError(fmt::format(
        "machine {}: GPU memory has {:.2f} GB and {:.2f} GB are needed ({} cost shape: dense weights {:.2f} + KV cache {:.2f} + {} expert "
        "slots {:.2f} + {} staging slots {:.2f}): lower the cache ratio or choose another machine or --cost-shape",
        profile_.name, gb(gpu().memory_bytes), gb(on_gpu), cost_.name, gb(m.dense_bytes), gb(m.kv_bytes), slots, gb(m.experts_bytes),
        staging_slots, gb(m.staging_bytes)));
  }
}

std::vector<SlotId> EmulatedMachine::add_slots(int device, int count, bool staging) {
  std::vector<SlotId> added;
  for (std::size_t i = 0; added.size() < static_cast<std::size_t>(count); ++i) {
    if (i == slots_.size()) slots_.emplace_back();
    if (slots_[i].in_use) continue;
    slots_[i] = {.bytes = arithmetic_ != nullptr ? AlignedBytes(slot_bytes_) : AlignedBytes(),
                 .device = static_cast<std::uint8_t>(device),
                 .staging = staging,
                 .in_use = true};
    added.push_back(static_cast<SlotId>(i));
  }
  (staging ? staging_slots_ : expert_slots_) += count;
  peak_bytes_ = memory().gpu_peak_bytes;
  return added;
}

void EmulatedMachine::remove_slot(SlotId slot) {
  Slot& s = slots_[slot];
  ES_ASSERT(s.in_use, "removes a slot that does not exist");
  --(s.staging ? staging_slots_ : expert_slots_);
  s = {};
}

// --- queueing -------------------------------------------------------------------------------------------------------------

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

Ticket EmulatedMachine::queue_gpu(WorkKind kind, int layer, std::int64_t bytes, std::int64_t flops, std::span<const Ticket> after) {
  catch_up();
  Payload p;
  p.work = {.bytes = bytes, .flops = flops, .step = step_, .layer = layer < 0 ? kNone16 : static_cast<std::uint16_t>(layer),
            .tokens = static_cast<std::uint16_t>(tokens_.size()), .kind = kind, .lane = Lane::gpu};
  LaneOp op = gpu_op(bytes, flops);
  op.payload = keep(p);
  return simulation_.add(std::move(op), after.data(), after.size());
}

Ticket EmulatedMachine::queue_gpu_expert(const Demand& demand, SlotId slot, Ticket after) {
  const int rows = static_cast<int>(demand.rows.size());
  Payload p;
  p.work = {.bytes = expert_bytes(rows), .flops = expert_flops(rows), .step = step_, .layer = demand.expert.layer,
            .expert = demand.expert.expert, .tokens = static_cast<std::uint16_t>(rows), .kind = WorkKind::expert, .lane = Lane::gpu};
  p.slot = slot;
  p.demand = &demand;
  LaneOp op = gpu_op(p.work.bytes, p.work.flops);
  op.payload = keep(p);
  return simulation_.add(std::move(op), &after, 1);
}

Ticket EmulatedMachine::copy_expert(const ExpertCopy& request) {
  catch_up();
  Payload p;
  p.is_copy = true;
  p.copy = {.issued_ns = host_now_, .bytes = cost_.expert_bytes, .step = step_, .copy = copies_++, .layer = request.expert.layer,
            .expert = request.expert.expert, .slot = request.slot, .reason = request.reason, .lane = Lane::h2d, .device = request.device,
            .precision = request.precision};
  p.slot = request.slot;
  p.publish = request.publish;
  LaneOp op;
  op.lane = Lane::h2d;
  op.device = request.device;
  op.copy_class = copy_class(request.reason);
  op.bytes = cost_.expert_bytes;
  if (!profile_.unified_memory) {
    op.fixed_ns = profile_.link.latency_s * kNs;
    op.work_ns = kNs * static_cast<double>(cost_.expert_bytes) / profile_.link.h2d_bytes_per_s;
    op.host_bytes_per_s = profile_.link.h2d_bytes_per_s;
    op.chunk_bytes = profile_.link.chunk_bytes;
  }
  op.payload = keep(p);
  return simulation_.add(std::move(op), &request.after, 1);
}

// Rows on their way to the CPU (d2h) or results back (h2d). No link, no copy.
Ticket EmulatedMachine::queue_activations(Lane lane, const Demand& demand, Ticket after) {
  if (profile_.unified_memory) return after;
  const bool out = lane == Lane::d2h;
  // The step's inputs go out once for all experts of the layer; each expert's results come back on their own.
  const std::size_t rows = out ? tokens_.size() : demand.rows.size();
  Payload p;
  p.is_copy = true;
  p.copy = {.issued_ns = simulation_.now(), .bytes = static_cast<std::int64_t>(cost_.width * sizeof(float)) * static_cast<std::int64_t>(rows),
            .step = step_, .copy = copies_++, .layer = demand.expert.layer, .expert = out ? kNone16 : demand.expert.expert,
            .reason = CopyReason::activation, .lane = lane};
  LaneOp op;
  op.lane = lane;
  op.copy_class = kActivationClass;
  op.bytes = p.copy.bytes;
  op.fixed_ns = profile_.link.latency_s * kNs;
  const double rate = out ? profile_.link.d2h_bytes_per_s : profile_.link.h2d_bytes_per_s;
  op.work_ns = kNs * static_cast<double>(op.bytes) / rate;
  op.host_bytes_per_s = rate;
  op.payload = keep(p);
  return simulation_.add(std::move(op), &after, 1);
}

Ticket EmulatedMachine::expert_on_cpu(const Demand& demand) {
  catch_up();
  if (activations_out_ == 0) activations_out_ = queue_activations(Lane::d2h, demand, router_);
  const int rows = static_cast<int>(demand.rows.size());
  Payload p;
  p.work = {.bytes = expert_bytes(rows), .flops = expert_flops(rows), .step = step_, .layer = demand.expert.layer,
            .expert = demand.expert.expert, .tokens = static_cast<std::uint16_t>(rows), .kind = WorkKind::expert, .lane = Lane::cpu};
  p.demand = &demand;
  LaneOp op;
  op.lane = Lane::cpu;
  op.fixed_ns = profile_.host.task_s * kNs;
  op.work_ns = cpu_work_ns(p.work.bytes, p.work.flops);
  op.host_bytes_per_s = op.work_ns > 0 ? kNs * static_cast<double>(p.work.bytes) / op.work_ns : 0;
  op.payload = keep(p);
  const Ticket computed = simulation_.add(std::move(op), &activations_out_, 1);
  return queue_activations(Lane::h2d, demand, computed);
}

// --- a step ---------------------------------------------------------------------------------------------------------------

void EmulatedMachine::begin_step(const StepInput& input) {
  catch_up();
  simulation_.forget_done();
  step_ = input.step;
  tokens_.assign(input.tokens.begin(), input.tokens.end());
  const auto bytes = static_cast<std::int64_t>(cost_.width * sizeof(float)) * static_cast<std::int64_t>(tokens_.size());
  queue_gpu(WorkKind::embed, -1, bytes, 0, {});
}

void EmulatedMachine::attention(int layer) {
  // Keys and values are read once a sequence, every token is compared with every earlier one.
  double positions = 0;
  std::int64_t kv_read = 0;
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    positions += tokens_[i].position + 1;
    const bool last_of_sequence = i + 1 == tokens_.size() || tokens_[i + 1].sequence != tokens_[i].sequence;
    if (last_of_sequence) kv_read += (tokens_[i].position + 1) * cost_.kv_bytes_per_token;
  }
  const double flops = 2 * cost_.attention_parameters * static_cast<double>(tokens_.size()) + cost_.attention_flops_per_position * positions;
  queue_gpu(WorkKind::attention, layer, cost_.attention_bytes + kv_read, static_cast<std::int64_t>(flops), {});
}

void EmulatedMachine::router(const RouterRequest& request) {
  request_ = request;
  given_.assign(request.given.begin(), request.given.end());
  const int gates = 1 + request.lookahead_used;
  const double parameters = cost_.width * shape_.experts * gates;
  router_ = queue_gpu(WorkKind::router, request.layer, static_cast<std::int64_t>(parameters * 4),
                      static_cast<std::int64_t>(2 * parameters) * static_cast<std::int64_t>(tokens_.size()), {});
  activations_out_ = 0;
}

LayerRoutes EmulatedMachine::wait_routes() {
  wait_and_sync(router_);
  return {.asked_ns = asked_ns_, .tokens = routes_, .demands = demands_};
}

void EmulatedMachine::combine(int layer, std::span<const Ticket> experts) {
  const auto bytes = static_cast<std::int64_t>(cost_.width * sizeof(float)) * static_cast<std::int64_t>(tokens_.size()) * (shape_.top_k + 2);
  combine_ = queue_gpu(WorkKind::combine, layer, bytes, 0, experts);
}

void EmulatedMachine::head() {
  const auto wanted = std::count_if(tokens_.begin(), tokens_.end(), [](const TokenInput& t) { return t.wants_logits; });
  if (wanted == 0) {
    head_ = combine_;
    return;
  }
  head_ = queue_gpu(WorkKind::head, -1, cost_.head_bytes, static_cast<std::int64_t>(2 * cost_.head_parameters) * wanted, {});
}

void EmulatedMachine::wait_and_sync(Ticket t) {
  wait(t);
  spend_on_host(WorkKind::routing_sync, to_ns(gpu().sync_s));
}

void EmulatedMachine::spend_on_host(WorkKind kind, TimeNs ns) {
  const TimeNs start = host_now_;
  host_now_ += ns;
  if (observer_ == nullptr || ns == 0) return;
  observer_->on_event(WorkRecord{.start_ns = start, .end_ns = host_now_, .step = step_, .tokens = static_cast<std::uint16_t>(tokens_.size()),
                                 .kind = kind, .lane = Lane::host});
}

// --- what the simulation tells ----------------------------------------------------------------------------------------------

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
    const std::span<const std::byte> blob = model_->expert_blob(id);
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
    case WorkKind::embed: arithmetic_->begin_step(tokens_); break;
    case WorkKind::attention: arithmetic_->attention(p.work.layer); break;
    case WorkKind::expert: {
      const ExpertId id = p.demand->expert;
      const auto size = static_cast<std::size_t>(model_->blob_layout(id.layer).bytes);
      const std::span<const std::byte> blob = p.work.lane == Lane::cpu ? model_->expert_blob(id) : slots_[p.slot].bytes.span().first(size);
      arithmetic_->expert(id.layer, blob, p.demand->rows);
      break;
    }
    case WorkKind::combine:
      for (std::size_t t = 0; t < tokens_.size(); ++t) {
        const RouteRecord& r = routes_[t];
        arithmetic_->combine(p.work.layer, static_cast<int>(t), {r.weight.data(), r.picks});
      }
      break;
    case WorkKind::head: arithmetic_->head(); break;
    default: break;
  }
}

void EmulatedMachine::fill_route(int token, RouteRecord& record) {
  const RouterRule& rule = model_->description().router;
  record.step = step_;
  record.layer = static_cast<std::uint16_t>(request_.layer);
  record.token = static_cast<std::uint16_t>(token);
  record.picks = static_cast<std::uint8_t>(rule.top_k);
  record.gate_entries = static_cast<std::uint8_t>(std::min(rule.experts, kGateEntries));
  route(rule, arithmetic_->router_logits(token), {record.expert.data(), record.picks}, {record.weight.data(), record.picks}, probabilities_);
  store_gate(probabilities_, record.gate[0]);
  record.gates = 1;
  for (int d = 1; d <= request_.lookahead_recorded; ++d) {
    arithmetic_->lookahead_logits(request_.layer + d, token, gate_logits_);
    gate_probabilities(rule, gate_logits_, probabilities_);
    store_gate(probabilities_, record.gate[static_cast<std::size_t>(d)]);
    ++record.gates;
  }
}

void EmulatedMachine::finish_router(TimeNs at) {
  asked_ns_ = at;
  if (given_.empty()) {
    ES_ASSERT(arithmetic_ != nullptr, "routes must be given when the arithmetic is switched off");
    arithmetic_->router(request_.layer);
    routes_.assign(tokens_.size(), RouteRecord{});
    for (std::size_t t = 0; t < tokens_.size(); ++t) fill_route(static_cast<int>(t), routes_[t]);
  } else {
    routes_.swap(given_);
  }
  demands_ = groups_.group(request_.layer, shape_.experts, routes_);
  if (!request_.start_resident) return;
  for (Demand& d : demands_) {
    const SlotId slot = entry(d.expert);
    if (slot != kNone16) d.started = queue_gpu_expert(d, slot, 0);
  }
}

}  // namespace

std::unique_ptr<Machine> make_emulated_machine(const MachineProfile& profile, const CostShape& cost, const RunShape& shape,
                                               const Model* model, Arithmetic* arithmetic) {
  ES_ASSERT((model == nullptr) == (arithmetic == nullptr), "a machine has both a model and its arithmetic, or neither");
  return std::make_unique<EmulatedMachine>(profile, cost, shape, model, arithmetic);
}

}  // namespace expertscope
