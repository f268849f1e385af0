#include "profiler/metrics.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "profiler/interval_sweep.h"

namespace expertscope {
namespace {

// Steps that overlap the stretch, in order.
template <typename Visit>
void for_steps_overlapping(const Trace& trace, TimeRange range, Visit&& visit) {
  for (std::size_t i = trace.first_step_ending_after(range.begin_ns); i < trace.steps.size(); ++i) {
    if (trace.steps[i].start_ns >= range.end_ns) return;
    visit(trace.steps[i]);
  }
}

// Nearest rank: the smallest value that at least `share` of all do not exceed.
TimeNs percentile(const std::vector<TimeNs>& sorted, double share) {
  if (sorted.empty()) return 0;
  const auto rank = static_cast<std::size_t>(std::ceil(share * static_cast<double>(sorted.size())));
  return sorted[std::clamp<std::size_t>(rank, 1, sorted.size()) - 1];
}

}  // namespace

TimeRange range_of_steps(const Trace& trace, std::size_t first, std::size_t last) {
  TimeRange range;
  if (first < trace.steps.size()) range.begin_ns = trace.steps[first].start_ns;
  if (last < trace.steps.size()) range.end_ns = trace.steps[last].start_ns;
  return range;
}

TimeRange range_of_epoch(const Trace& trace, std::size_t epoch_index) {
  TimeRange range;
  if (epoch_index > 0 && epoch_index < trace.epochs.size()) range.begin_ns = trace.epochs[epoch_index].at_ns;
  if (epoch_index + 1 < trace.epochs.size()) range.end_ns = trace.epochs[epoch_index + 1].at_ns;
  return range;
}

void add_demand(ExpertCounts& counts, const DemandRecord& demand) {
  counts.picks += demand.picks;
  ++counts.demands;
  switch (demand.state) {
    case DemandState::hit:
      ++counts.hits;
      break;
    case DemandState::late:
      ++counts.late;
      break;
    case DemandState::miss:
      ++counts.misses;
      break;
  }
  switch (demand.outcome) {
    case Outcome::gpu:
      ++counts.gpu;
      break;
    case Outcome::fetched:
      ++counts.fetched;
      break;
    case Outcome::streamed:
      ++counts.streamed;
      break;
    case Outcome::cpu:
      ++counts.cpu;
      break;
    case Outcome::cpu_early:
      ++counts.cpu_early;
      break;
    case Outcome::skipped:
      ++counts.skipped;
      break;
    case Outcome::substituted:
      ++counts.substituted;
      break;
  }
  if (demand.precision != Precision::native && demand.outcome != Outcome::skipped) ++counts.low_precision;
  if (demand.revised) ++counts.revised;
}

ExpertCounts count_experts(const Trace& trace, Phase phase, TimeRange range) {
  ExpertCounts counts;
  for_steps_overlapping(trace, range, [&](const StepRecord& step) {
    if (step.phase != phase) return;
    for (const DemandRecord& demand : trace.demands_of(step.step)) {
      if (range.contains(demand.asked_ns)) add_demand(counts, demand);
    }
  });
  return counts;
}

TransferTotals count_transfers(const Trace& trace, TimeRange range) {
  TransferTotals totals;
  const std::vector<bool> wasted = wasted_prefetches(trace);
  for (std::size_t i = 0; i < trace.copies.size(); ++i) {
    const CopyRecord& copy = trace.copies[i];
    if (!range.contains(copy.start_ns)) continue;
    if (copy.lane == Lane::d2h) totals.d2h_bytes += copy.bytes;
    if (copy.lane == Lane::storage) totals.storage_bytes += copy.bytes;
    if (copy.lane != Lane::h2d) continue;
    if (!is_expert_copy(copy.reason)) {
      totals.other_h2d_bytes += copy.bytes;
      continue;
    }
    totals.count += copy.last ? 1 : 0;
    totals.bytes += copy.bytes;
    totals.copy_ns += copy.end_ns - copy.start_ns;
    switch (copy.reason) {
      case CopyReason::demand:
        totals.demand_bytes += copy.bytes;
        break;
      case CopyReason::prefetch:
        totals.prefetch_bytes += copy.bytes;
        break;
      case CopyReason::promotion:
        totals.promotion_bytes += copy.bytes;
        break;
      case CopyReason::placement:
        totals.placement_bytes += copy.bytes;
        break;
      case CopyReason::activation:
      case CopyReason::input:
        break;
    }
    if (wasted[i]) totals.wasted_prefetch_bytes += copy.bytes;
  }
  return totals;
}

LinkUse link_while_fetching(const Trace& trace, TimeRange range) {
  LinkUse use;
  for (const CopyRecord& copy : trace.copies) {
    if (copy.lane == Lane::h2d && copy.reason == CopyReason::demand && range.contains(copy.start_ns)) {
      use.demand_bytes += copy.bytes;
    }
  }
  IntervalSweep sweep(trace);
  sweep.over(std::max(range.begin_ns, trace.begin_ns()), std::min(range.end_ns, trace.end_ns()),
             [&](TimeNs length, std::uint16_t activities) {
               if (has(activities, Activity::demand_copy) || has(activities, Activity::demand_wait))
                 use.fetching_ns += length;
             });
  return use;
}

Overlap overlap(const Trace& trace, TimeRange range) {
  Overlap result;
  IntervalSweep sweep(trace);
  for_steps_overlapping(trace, range, [&](const StepRecord& step) {
    if (step.phase != Phase::decode) return;
    sweep.over(std::max(step.start_ns, range.begin_ns), std::min(step.end_ns, range.end_ns),
               [&](TimeNs length, std::uint16_t activities) {
                 const bool gpu = has(activities, Activity::gpu_kernel), cpu = has(activities, Activity::cpu_expert);
                 result.decode_ns += length;
                 if (gpu) result.gpu_busy_ns += length;
                 if (cpu) result.cpu_ns += length;
                 if (cpu && gpu) result.cpu_hidden_ns += length;
                 if (!has(activities, Activity::expert_copy)) return;
                 result.copy_ns += length;
                 if (gpu || cpu) result.copy_hidden_ns += length;
               });
    for (const WorkRecord& work : trace.works_of(step.step)) {
      if (work.lane == Lane::gpu && range.contains(work.start_ns)) result.gpu_bytes += work.bytes;
    }
  });
  return result;
}

DecodeNumbers decode_numbers(const Trace& trace, TimeRange range) {
  DecodeNumbers numbers;
  std::vector<TimeNs> token_ns;
  for (std::size_t i = trace.first_step_starting_at(range.begin_ns); i < trace.steps.size(); ++i) {
    const StepRecord& step = trace.steps[i];
    if (step.start_ns >= range.end_ns) break;
    if (step.phase != Phase::decode || step.tokens == 0) continue;
    const TimeNs duration = step.end_ns - step.start_ns;
    numbers.tokens += step.tokens;
    numbers.decode_ns += duration;
    token_ns.push_back(duration);  // each of its sequences waited this long for its token
  }
  std::ranges::sort(token_ns);
  numbers.p50_ns = percentile(token_ns, 0.50);
  numbers.p90_ns = percentile(token_ns, 0.90);
  numbers.p99_ns = percentile(token_ns, 0.99);
  return numbers;
}

PrefillNumbers prefill_numbers(const Trace& trace, TimeRange range) {
  PrefillNumbers numbers;
  TimeNs prompt_start_ns = 0;
  std::uint64_t prompts = 0;
  double first_token_sum_ns = 0;
  for (std::size_t i = trace.first_step_starting_at(range.begin_ns); i < trace.steps.size(); ++i) {
    const StepRecord& step = trace.steps[i];
    if (step.start_ns >= range.end_ns) break;
    if (step.phase != Phase::prefill) continue;
    if (step.first_position == 0) prompt_start_ns = step.start_ns;
    numbers.tokens += step.tokens;
    numbers.prefill_ns += step.end_ns - step.start_ns;
    if (step.sampled > 0) {
      ++prompts;
      first_token_sum_ns += static_cast<double>(step.end_ns - prompt_start_ns);
    }
  }
  if (prompts > 0) numbers.first_token_ns = first_token_sum_ns / static_cast<double>(prompts);
  return numbers;
}

DeviceLoad device_load(const Trace& trace, Phase phase, TimeRange range) {
  DeviceLoad load;
  std::map<std::uint16_t, std::map<std::uint8_t, std::uint64_t>> picks;  // by layer and GPU
  for_steps_overlapping(trace, range, [&](const StepRecord& step) {
    if (step.phase != phase) return;
    picks.clear();
    for (const DemandRecord& demand : trace.demands_of(step.step)) {
      if (range.contains(demand.asked_ns)) picks[demand.layer][demand.device] += demand.picks;
    }
    for (const auto& [layer, by_device] : picks) {
      std::uint64_t all = 0, most = 0;
      for (const auto& [device, count] : by_device) all += count, most = std::max(most, count);
      const double share = static_cast<double>(most) / static_cast<double>(std::max<std::uint64_t>(1, all));
      ++load.layers;
      load.largest_sum += share;
      load.largest = std::max(load.largest, share);
    }
  });
  return load;
}

std::vector<ExpertTotals> expert_totals(const Trace& trace, TimeRange range) {
  if (!trace.started) return {};
  const auto layers = static_cast<std::size_t>(trace.info.layers),
             experts = static_cast<std::size_t>(trace.info.experts);
  std::vector<ExpertTotals> cells(layers * experts);
  const auto cell = [&](std::uint16_t layer, std::uint16_t expert) -> ExpertTotals* {
    return layer < layers && expert < experts ? &cells[layer * experts + expert] : nullptr;
  };
  for_steps_overlapping(trace, range, [&](const StepRecord& step) {
    for (const DemandRecord& demand : trace.demands_of(step.step)) {
      ExpertTotals* totals = range.contains(demand.asked_ns) ? cell(demand.layer, demand.expert) : nullptr;
      if (!totals) continue;
      totals->activations += demand.picks;
      ++totals->demands;
      totals->hits += demand.state == DemandState::hit ? 1 : 0;
      totals->late += demand.state == DemandState::late ? 1 : 0;
      totals->misses += demand.state == DemandState::miss ? 1 : 0;
      totals->cpu += demand.outcome == Outcome::cpu || demand.outcome == Outcome::cpu_early ? 1 : 0;
      totals->low_precision += demand.precision != Precision::native ? 1 : 0;
    }
  });
  for (const CopyRecord& copy : trace.copies) {
    if (copy.lane != Lane::h2d || !is_expert_copy(copy.reason) || !range.contains(copy.start_ns)) continue;
    if (ExpertTotals* totals = cell(copy.layer, copy.expert)) totals->copied_bytes += copy.bytes;
  }
  std::vector<int> copies_resident(cells.size());
  for (const ResidencyRecord& change : trace.residency) {
    if (change.at_ns >= range.end_ns || change.layer >= layers || change.expert >= experts) continue;
    copies_resident[change.layer * experts + change.expert] += change.change == ResidencyChange::loaded ? 1 : -1;
  }
  for (std::size_t i = 0; i < cells.size(); ++i) cells[i].resident = copies_resident[i] > 0;
  return cells;
}

}  // namespace expertscope
