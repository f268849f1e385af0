#include <algorithm>

#include <fmt/format.h>

#include "engine/assert.h"
#include "engine/error.h"
#include "engine/machines/emulated_machine_impl.h"

namespace expertscope {

// --- memory

MemoryUse EmulatedMachine::memory() const {
  MemoryUse m = costs_.memory({.staging = staging_slots_, .sequences = sequences_});
  m.experts_bytes = slot_bytes_charged_;
  m.gpu_peak_bytes += slot_bytes_charged_;
  m.gpu_peak_bytes = std::max(peak_bytes_, m.gpu_peak_bytes);
  m.work_bytes = work_bytes_;
  return m;
}

void EmulatedMachine::prepare(Precision precision) {
  auto& versions = versions_[static_cast<std::size_t>(precision)];
  if (precision == Precision::native || model_ == nullptr || versions != nullptr) return;
  auto made = std::make_unique<ExpertVersions>(*model_, precision);
  for (int l = 0; l < shape_.layers; ++l) {
    if (made->layout(l).bytes <= slot_bytes_) continue;
    throw InputError(
        fmt::format("the policy wants experts in {}, which is above the precision of this model's file: "
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
  const Work work = costs_.expert(demand.computed_rows(), precision);
  const std::uint8_t device = slots_[slot].device;
  Payload p = expert_payload(demand, work, Lane::gpu, precision);
  p.work.device = device;
  p.slot = slot;
  LaneOp op = costs_.on_gpu(WorkKind::expert, work, device);
  if (joins_the_last) op.fixed_ns = 0;
  op.payload = keep(p);
  Remote& there = remote_[device];
  ES_ASSERT(device == 0 || there.rows > 0, "an expert's rows were not sent to its GPU");
  const Ticket waits_for[2] = {after, there.arrived};
  const Ticket done = simulation_.add(std::move(op), waits_for, 2);
  if (device != 0) there.last_expert = done;
  return done;
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
  Ticket& read = arrived(id, precision);
  if (host_tier_->use(id, precision) && !costs_.profile().unified_memory) return is_done(read) ? 0 : read;
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
  return read = simulation_.add(std::move(op), nullptr, 0);
}

// Rows on their way to the CPU (d2h) or results back (h2d). No link, no copy.
Ticket EmulatedMachine::queue_activations(Lane lane, const Demand& demand, Ticket after) {
  if (costs_.profile().unified_memory) return after;
  const bool out = lane == Lane::d2h;
  // The step's inputs go out once for all experts of the layer; each expert's results come back on their own.
  const std::size_t rows = out ? tokens_.size() : demand.computed_rows();
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

// Activations that belong to no single expert.
Ticket EmulatedMachine::queue_rows(LaneOp op, std::uint8_t device, Ticket after) {
  Payload p;
  p.is_copy = true;
  p.copy = {.issued_ns = simulation_.now(),
            .step = step_,
            .copy = copies_++,
            .layer = static_cast<std::uint16_t>(request_.layer),
            .reason = CopyReason::activation,
            .lane = op.lane,
            .device = device};
  op.device = device;
  op.copy_class = kActivationClass;
  op.payload = keep(p);
  return simulation_.add(std::move(op), &after, 1);
}

// Straight to the other GPU, or out to the host and in again.
Ticket EmulatedMachine::send_between(std::uint8_t from, std::uint8_t to, std::size_t rows, Ticket after) {
  if (costs_.has_peers()) return queue_rows(costs_.peer_copy(rows), from, after);
  const Ticket out = queue_rows(costs_.activation_copy(Lane::d2h, rows), from, after);
  return queue_rows(costs_.activation_copy(Lane::h2d, rows), to, out);
}

void EmulatedMachine::send_rows(int device, std::size_t rows) {
  catch_up();
  Remote& there = remote_[static_cast<std::size_t>(device)];
  there = {.rows = rows, .arrived = send_between(0, static_cast<std::uint8_t>(device), rows, router_)};
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
  const Work work = costs_.expert(demand.computed_rows(), precision);
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
