#include "views/range_statistics.h"

#include <algorithm>

#include "views/step_sums.h"
#include "views/time_axis.h"

namespace expertscope {
namespace {

void add_transfers(const Trace& trace, const TraceIndex& index, TimeRange range, TransferTotals& totals) {
  const auto first = std::partition_point(trace.copies.begin(), trace.copies.end(),
                                          [&](const CopyRecord& c) { return c.end_ns <= range.begin_ns; });
  for (auto copy = first; copy != trace.copies.end() && copy->start_ns < range.end_ns; ++copy) {
    if (!range.contains(copy->start_ns) || copy->lane != Lane::h2d || !is_expert_copy(copy->reason)) continue;
    totals.count += copy->last;
    totals.bytes += copy->bytes;
    totals.copy_ns += copy->end_ns - copy->start_ns;
    if (copy->reason == CopyReason::demand) totals.demand_bytes += copy->bytes;
    if (copy->reason == CopyReason::promotion) totals.promotion_bytes += copy->bytes;
    if (copy->reason == CopyReason::placement) totals.placement_bytes += copy->bytes;
    if (copy->reason != CopyReason::prefetch) continue;
    totals.prefetch_bytes += copy->bytes;
    const PrefetchFate fate = index.fates.of(copy->copy);
    if (fate == PrefetchFate::wasted || (fate == PrefetchFate::pending && trace.ended))
      totals.wasted_prefetch_bytes += copy->bytes;
  }
}

// A stretch that holds no complete step.
void add_edge(const Trace& trace, TimeRange range, RangeValues& values) {
  if (is_empty(range)) return;
  values.parts += attribute_interval(trace, range.begin_ns, range.end_ns);
  const Overlap edge = overlap(trace, range);
  values.overlapped.decode_ns += edge.decode_ns;
  values.overlapped.gpu_busy_ns += edge.gpu_busy_ns;
  values.overlapped.copy_ns += edge.copy_ns;
  values.overlapped.copy_hidden_ns += edge.copy_hidden_ns;
}

void add_step(const StepSummary& step, RangeValues& values) {
  for (std::size_t i = 0; i < step.part_ns.size(); ++i) values.parts.ns[i] += step.part_ns[i];
  if (step.phase != Phase::decode) return;
  values.overlapped.decode_ns += step.end_ns - step.start_ns;
  values.overlapped.gpu_busy_ns += step.part_ns[static_cast<std::size_t>(TimePart::gpu_compute)];
  values.overlapped.copy_ns += step.copy_ns;
  values.overlapped.copy_hidden_ns += step.copy_hidden_ns;
}

}  // namespace

RangeValues range_values(const Trace& trace, const TraceIndex& index, TimeRange range) {
  RangeValues values{.range = range,
                     .experts = count_experts(trace, Phase::decode, range),
                     .transfers = {},
                     .decode = decode_numbers(trace, range),
                     .overlapped = {},
                     .parts = {}};
  add_transfers(trace, index, range, values.transfers);
  TimeNs done_ns = range.begin_ns;
  for (const StepSummary& step : steps_within(index.steps.steps(), range)) {
    if (step.start_ns < done_ns || step.end_ns > range.end_ns) continue;
    add_edge(trace, {done_ns, step.start_ns}, values);
    add_step(step, values);
    done_ns = step.end_ns;
  }
  add_edge(trace, {done_ns, range.end_ns}, values);
  return values;
}

const RangeValues& RangeStatistics::of(const Trace& trace, const TraceIndex& index, TimeRange range, bool refresh) {
  const bool same_trace = values_ && trace_ == &trace;
  const bool current =
      same_trace && same(values_->range, range) && (range.end_ns <= end_ns_ || revision_ == trace.revision());
  if (current || (same_trace && !refresh)) return *values_;
  values_ = range_values(trace, index, range);
  trace_ = &trace;
  revision_ = trace.revision();
  end_ns_ = trace.end_ns();
  return *values_;
}

}  // namespace expertscope
