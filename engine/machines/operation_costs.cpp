#include "engine/machines/operation_costs.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "engine/error.h"

namespace expertscope {
namespace {

constexpr double kNs = 1e9;

}  // namespace

OperationCosts::OperationCosts(const MachineProfile& profile, const CostShape& cost, const RunShape& run)
    : profile_(profile), cost_(cost), run_(run) {}

TimeNs OperationCosts::to_ns(double seconds) {
  return static_cast<TimeNs>(std::llround(seconds * kNs));
}

// --- what there is to do

std::int64_t OperationCosts::activation_bytes(std::size_t rows) const {
  return static_cast<std::int64_t>(cost_.width * sizeof(float)) * static_cast<std::int64_t>(rows);
}

Work OperationCosts::embed(std::size_t tokens) const {
  return {.bytes = activation_bytes(tokens), .flops = 0};
}

Work OperationCosts::attention(std::span<const TokenInput> tokens) const {
  // Keys and values are read once a sequence, every token is compared with every earlier one.
  double positions = 0;
  std::int64_t kv_read = 0;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    positions += tokens[i].position + 1;
    const bool last_of_sequence = i + 1 == tokens.size() || tokens[i + 1].sequence != tokens[i].sequence;
    if (last_of_sequence) kv_read += (tokens[i].position + 1) * cost_.kv_bytes_per_token;
  }
  const double flops = 2 * cost_.attention_parameters * static_cast<double>(tokens.size()) +
                       cost_.attention_flops_per_position * positions;
  return {.bytes = cost_.attention_bytes + kv_read, .flops = static_cast<std::int64_t>(flops)};
}

Work OperationCosts::router(int gates, std::size_t tokens) const {
  const double parameters = cost_.width * run_.experts * gates;  // kept in float32
  return {.bytes = static_cast<std::int64_t>(parameters * sizeof(float)),
          .flops = static_cast<std::int64_t>(2 * parameters) * static_cast<std::int64_t>(tokens)};
}

Work OperationCosts::expert(std::size_t rows, Precision precision) const {
  return {.bytes = expert_bytes(precision) + 2 * activation_bytes(rows),
          .flops = static_cast<std::int64_t>(2 * cost_.expert_parameters) * static_cast<std::int64_t>(rows)};
}

Work OperationCosts::combine(std::size_t tokens, std::size_t padded_rows) const {
  Work work{.bytes = activation_bytes(tokens) * (run_.top_k + 2), .flops = 0};
  if (padded_rows == 0) return work;
  // Once to the experts, once back.
  const std::size_t rows = padded_rows * static_cast<std::size_t>(run_.experts);
  work.bytes += 2 * (mask_bytes(tokens, padded_rows) + activation_bytes(rows));
  work.flops += static_cast<std::int64_t>(2 * 2 * cost_.width * static_cast<double>(rows * tokens));
  return work;
}

std::int64_t OperationCosts::mask_bytes(std::size_t tokens, std::size_t padded_rows) const {
  return static_cast<std::int64_t>(sizeof(float) * tokens * static_cast<std::size_t>(run_.experts) * padded_rows);
}

std::int64_t OperationCosts::work_bytes(std::size_t rows, std::size_t tokens, std::size_t padded_rows) const {
  return 2 * activation_bytes(rows) + mask_bytes(tokens, padded_rows);
}

Work OperationCosts::head(std::size_t tokens) const {
  return {.bytes = cost_.head_bytes,
          .flops = static_cast<std::int64_t>(2 * cost_.head_parameters) * static_cast<std::int64_t>(tokens)};
}

// --- how long it takes where

LaneOp OperationCosts::on_gpu(WorkKind kind, Work work, std::uint8_t device) const {
  const GpuProfile& gpu = profile_.gpus[device];
  const auto measured = std::ranges::find(gpu.operations, kind, &OperationRate::kind);
  const bool known = measured != gpu.operations.end();
  LaneOp op;
  op.lane = Lane::gpu;
  op.device = device;
  op.fixed_ns = (known ? measured->fixed_s : gpu.launch_s) * kNs;
  op.work_ns =
      kNs * std::max(static_cast<double>(work.bytes) / (known ? measured->bytes_per_s : gpu.memory_bytes_per_s),
                     static_cast<double>(work.flops) / gpu.flops_per_s);
  return op;
}

TimeNs OperationCosts::issue_ns(WorkKind kind) const {
  const std::vector<OperationRate>& operations = profile_.gpus[0].operations;
  const auto measured = std::ranges::find(operations, kind, &OperationRate::kind);
  return measured != operations.end() ? to_ns(measured->issue_s) : 0;
}

LaneOp OperationCosts::on_cpu(Work work) const {
  const HostProfile& host = profile_.host;
  LaneOp op;
  op.lane = Lane::cpu;
  op.fixed_ns = host.task_s * kNs;
  op.work_ns = kNs * std::max(static_cast<double>(work.bytes) / host.memory_bytes_per_s,
                              static_cast<double>(work.flops) / host.flops_per_s);
  op.host_bytes_per_s = op.work_ns > 0 ? kNs * static_cast<double>(work.bytes) / op.work_ns : 0;
  return op;
}

LaneOp OperationCosts::expert_copy(Precision precision) const {
  LaneOp op;
  op.lane = Lane::h2d;
  op.bytes = expert_bytes(precision);
  if (profile_.unified_memory) return op;
  op.fixed_ns = profile_.link.latency_s * kNs;
  op.work_ns = kNs * static_cast<double>(op.bytes) / profile_.link.h2d_bytes_per_s;
  op.host_bytes_per_s = profile_.link.h2d_bytes_per_s;
  op.chunk_bytes = profile_.link.chunk_bytes;
  return op;
}

LaneOp OperationCosts::storage_read(Precision precision) const {
  LaneOp op;
  op.lane = Lane::storage;
  op.bytes = expert_bytes(precision);
  op.fixed_ns = profile_.storage.latency_s * kNs;
  op.work_ns = kNs * static_cast<double>(op.bytes) / profile_.storage.read_bytes_per_s;
  op.chunk_bytes = profile_.link.chunk_bytes;
  return op;
}

LaneOp OperationCosts::activation_copy(Lane lane, std::size_t rows) const {
  const double rate = lane == Lane::d2h ? profile_.link.d2h_bytes_per_s : profile_.link.h2d_bytes_per_s;
  LaneOp op;
  op.lane = lane;
  op.bytes = activation_bytes(rows);
  op.fixed_ns = profile_.link.latency_s * kNs;
  op.work_ns = kNs * static_cast<double>(op.bytes) / rate;
  op.host_bytes_per_s = rate;
  return op;
}

LaneOp OperationCosts::peer_copy(std::size_t rows) const {
  LaneOp op;
  op.lane = Lane::d2h;
  op.bytes = activation_bytes(rows);
  op.fixed_ns = profile_.link.latency_s * kNs;
  op.work_ns = kNs * static_cast<double>(op.bytes) / profile_.peer_bytes_per_s;
  return op;
}

TimeNs OperationCosts::sampling_ns() const {
  const double vocab = cost_.width > 0 ? cost_.head_parameters / cost_.width : 0;
  return to_ns(profile_.host.sampling_s + profile_.host.sampling_logit_s * vocab);
}

// --- what it takes up

std::int64_t OperationCosts::expert_bytes(Precision precision) const {
  if (precision == Precision::native) return cost_.expert_bytes;
  const double bits = precision == Precision::int8 ? 8.5 : precision == Precision::int4 ? 4.5 : 2.5;
  return std::min(cost_.expert_bytes, static_cast<std::int64_t>(cost_.expert_parameters * bits / 8));
}

MemoryUse OperationCosts::memory(const SlotCounts& slots) const {
  MemoryUse m;
  const std::int64_t router_bytes = router(1, 0).bytes;
  m.experts_bytes = slots.main * expert_bytes(slots.high_precision) + slots.low * expert_bytes(slots.low_precision);
  m.staging_bytes = slots.staging * cost_.expert_bytes;
  if (slots.device == 0) {
    m.dense_bytes = run_.layers * (cost_.attention_bytes + router_bytes) + cost_.head_bytes + cost_.embedding_bytes;
    m.kv_bytes = std::int64_t{slots.sequences} * run_.layers * run_.context * cost_.kv_bytes_per_token;
  }
  m.host_bytes = std::int64_t{run_.layers} * run_.experts * cost_.expert_bytes;
  if (run_.host_bytes) m.host_bytes = std::min(m.host_bytes, *run_.host_bytes);
  m.gpu_peak_bytes = m.experts_bytes + m.staging_bytes + m.dense_bytes + m.kv_bytes;
  return m;
}

void OperationCosts::ensure_fits(const SlotCounts& slots) const {
  const MemoryUse m = memory(slots);
  const auto gb = [](std::int64_t bytes) { return static_cast<double>(bytes) / 1e9; };
  // With unified memory a slot is a view of the host store and takes nothing beside it.
  const std::int64_t on_host = m.host_bytes + (profile_.unified_memory ? m.dense_bytes + m.kv_bytes : 0);
  if (on_host > profile_.host.memory_bytes) {
    throw InputError(fmt::format(
        "machine {}: the host store needs {:.2f} GB for {} experts of {} and host memory has {:.2f} GB: "
        "choose another machine or a smaller --cost-shape",
        profile_.name, gb(on_host), run_.layers * run_.experts, cost_.name, gb(profile_.host.memory_bytes)));
  }
  if (run_.host_bytes && *run_.host_bytes < run_.top_k * cost_.expert_bytes) {
    throw InputError(
        fmt::format("--host-bytes {}: host memory must hold the {} experts that a token uses in a layer, {:.2f} "
                    "GB of the {} cost shape: give more",
                    *run_.host_bytes, run_.top_k, gb(run_.top_k * cost_.expert_bytes), cost_.name));
  }
  if (run_.host_bytes && profile_.storage.read_bytes_per_s <= 0) {
    throw InputError(fmt::format("--host-bytes: machine {} has no storage to read experts from: choose another machine",
                                 profile_.name));
  }
  const auto device = static_cast<std::size_t>(slots.device);
  const std::int64_t there = profile_.gpus[device].memory_bytes;
  if (!profile_.unified_memory && m.gpu_peak_bytes > there) {
    throw InputError(fmt::format(
        "machine {}: {} has {:.2f} GB and {:.2f} GB are needed ({} cost shape: dense weights {:.2f} + KV cache "
        "of {} sequence{} {:.2f} + {} expert slots {:.2f} + {} staging slots {:.2f}): lower the cache ratio{} or "
        "choose "
        "another machine or --cost-shape",
        profile_.name, profile_.gpus.size() == 1 ? "GPU memory" : fmt::format("the memory of GPU {}", device),
        gb(there), gb(m.gpu_peak_bytes), cost_.name, gb(m.dense_bytes), slots.sequences,
        slots.sequences == 1 ? "" : "s", gb(m.kv_bytes), slots.main + slots.low, gb(m.experts_bytes), slots.staging,
        gb(m.staging_bytes), slots.sequences == 1 ? "" : " or --sequences"));
  }
}

}  // namespace expertscope
