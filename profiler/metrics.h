// What the recorded intervals add up to, over a stretch of time: the numbers of the report for the whole session, and
// of the views for a selection. Pure functions. A record belongs to the stretch in which it starts; time is cut at the
// edges.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "profiler/trace.h"

namespace expertscope {

struct TimeRange {  // [begin, end)
  TimeNs begin_ns = std::numeric_limits<TimeNs>::min();
  TimeNs end_ns = std::numeric_limits<TimeNs>::max();
  bool contains(TimeNs t) const { return t >= begin_ns && t < end_ns; }
};
// From the start of steps[first] to the start of steps[last] (or the end of the session): [first, last) as a stretch of
// time.
TimeRange range_of_steps(const Trace&, std::size_t first, std::size_t last);
// From when an epoch takes effect to the next one.
TimeRange range_of_epoch(const Trace&, std::size_t epoch_index);

// Demands of complete steps of one phase.
struct ExpertCounts {
  std::uint64_t picks = 0, demands = 0;
  std::uint64_t hits = 0, late = 0, misses = 0;  // sum to demands
  std::uint64_t gpu = 0, fetched = 0, streamed = 0, cpu = 0, cpu_early = 0, skipped = 0,
                substituted = 0;    // sum to demands
  std::uint64_t low_precision = 0;  // beside the outcomes
  std::uint64_t revised = 0;        // likewise: demands whose picks a gate weighted otherwise or dropped in part
  double hit_rate() const { return demands ? static_cast<double>(hits) / static_cast<double>(demands) : 0; }
};
ExpertCounts count_experts(const Trace&, Phase, TimeRange = {});
void add_demand(ExpertCounts&, const DemandRecord&);

// Expert copies host to device; everything else that crossed the link is counted apart.
struct TransferTotals {
  std::uint64_t count = 0;  // copies; a copy that was overtaken at a chunk boundary counts once
  std::int64_t bytes = 0, demand_bytes = 0, prefetch_bytes = 0, promotion_bytes = 0, placement_bytes = 0;
  std::int64_t wasted_prefetch_bytes = 0;  // lost again, or there when the session ended, without ever having been used
  std::int64_t other_h2d_bytes = 0, d2h_bytes = 0;
  std::int64_t storage_bytes = 0;  // read from storage into host memory
  TimeNs copy_ns = 0;              // time in which expert copies ran, added up over the links
};
TransferTotals count_transfers(const Trace&, TimeRange = {});
// By index into trace.copies: the piece carried a prefetch that was never used.
std::vector<bool> wasted_prefetches(const Trace&);

// Time in which demand copies ran or were waited for, and the rate of the link meanwhile: how near a link-bound run
// came to the link's ceiling.
struct LinkUse {
  std::int64_t demand_bytes = 0;
  TimeNs fetching_ns = 0;
  double bytes_per_s() const {
    return fetching_ns > 0 ? static_cast<double>(demand_bytes) * 1e9 / static_cast<double>(fetching_ns) : 0;
  }
};
LinkUse link_while_fetching(const Trace&, TimeRange = {});

// Over the decode steps of a stretch.
struct Overlap {
  TimeNs decode_ns = 0;        // time of decode steps
  TimeNs gpu_busy_ns = 0;      // of it, any GPU ran a kernel
  TimeNs copy_ns = 0;          // an expert copy ran
  TimeNs copy_hidden_ns = 0;   // of it, some compute (GPU kernel or CPU expert) ran
  TimeNs cpu_ns = 0;           // a CPU expert ran
  TimeNs cpu_hidden_ns = 0;    // of it, a GPU kernel ran
  std::int64_t gpu_bytes = 0;  // memory traffic of the GPU's work
  double gpu_busy_share() const { return share(gpu_busy_ns, decode_ns); }
  double copy_hidden_share() const { return share(copy_hidden_ns, copy_ns); }
  double cpu_hidden_share() const { return share(cpu_hidden_ns, cpu_ns); }
  static double share(TimeNs part, TimeNs whole) {
    return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0;
  }
};
Overlap overlap(const Trace&, TimeRange = {});

struct DecodeNumbers {
  std::uint64_t tokens = 0;  // the first token of each prompt belongs to prefill
  TimeNs decode_ns = 0;
  TimeNs p50_ns = 0, p90_ns = 0, p99_ns = 0;  // time of one token
  double tokens_per_s() const {
    return decode_ns > 0 ? static_cast<double>(tokens) * 1e9 / static_cast<double>(decode_ns) : 0;
  }
};
DecodeNumbers decode_numbers(const Trace&, TimeRange = {});

struct PrefillNumbers {
  std::uint64_t tokens = 0;
  TimeNs prefill_ns = 0;
  double first_token_ns = 0;  // mean over prompts: from accepting the prompt to its first token
  double tokens_per_s() const {
    return prefill_ns > 0 ? static_cast<double>(tokens) * 1e9 / static_cast<double>(prefill_ns) : 0;
  }
};
PrefillNumbers prefill_numbers(const Trace&, TimeRange = {});

// How a step's picks are spread over the GPUs to which their experts belong, layer by layer. An even share is one part
// in as many as there are GPUs.
struct DeviceLoad {
  std::uint64_t layers = 0;  // (step, layer) pairs
  double largest_sum = 0;    // over them: the share of the picks that the busiest GPU has
  double largest = 0;        // of them: Towards MoE Deployment's maximum load
  double mean_largest() const { return layers > 0 ? largest_sum / static_cast<double>(layers) : 0; }
};
DeviceLoad device_load(const Trace&, Phase, TimeRange = {});

// One cell of the layer x expert heatmap.
struct ExpertTotals {
  std::uint64_t activations = 0;  // picks
  std::uint64_t demands = 0, hits = 0, late = 0, misses = 0;
  std::uint64_t cpu = 0;  // demands that ran on the CPU
  std::uint64_t low_precision = 0;
  std::int64_t copied_bytes = 0;
  bool resident = false;  // at the end of the stretch
  double cpu_share() const { return demands ? static_cast<double>(cpu) / static_cast<double>(demands) : 0; }
};
// layers * experts cells, layer by layer; empty before the run has started. Both phases.
std::vector<ExpertTotals> expert_totals(const Trace&, TimeRange = {});

}  // namespace expertscope
