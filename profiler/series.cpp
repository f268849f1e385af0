#include "profiler/series.h"

#include <algorithm>

#include "profiler/interval_sweep.h"

namespace expertscope {
namespace {

StepSummary summarise(const Trace& trace, IntervalSweep& sweep, const StepRecord& step) {
  StepSummary s;
  s.start_ns = step.start_ns;
  s.end_ns = step.end_ns;
  s.step = step.step;
  s.epoch = step.epoch;
  s.first_generated = step.first_generated;
  s.tokens = step.tokens;
  s.phase = step.phase;
  for (const DemandRecord& demand : trace.demands_of(step.step)) {
    ++s.demands;
    s.hits += demand.state == DemandState::hit ? 1 : 0;
  }
  sweep.over(step.start_ns, step.end_ns, [&](TimeNs length, std::uint16_t activities) {
    s.part_ns[first_part(activities)] += length;
    if (!has(activities, Activity::expert_copy)) return;
    s.copy_ns += length;
    if (has(activities, Activity::gpu_kernel) || has(activities, Activity::cpu_expert)) s.copy_hidden_ns += length;
  });
  for (const auto& [key, index] : trace.lanes()) {
    if (key.lane != Lane::h2d) continue;
    const auto items = index.items();
    for (std::size_t i = index.first_ending_after(step.start_ns); i < items.size() && items[i].start_ns < step.end_ns;
         ++i) {
      if (!items[i].is_copy) continue;
      const CopyRecord& copy = trace.copies[items[i].record];
      if (!is_expert_copy(copy.reason)) continue;
      const TimeNs inside = std::min(copy.end_ns, step.end_ns) - std::max(copy.start_ns, step.start_ns);
      const TimeNs whole = copy.end_ns - copy.start_ns;
      s.link_bytes += whole > inside
                          ? static_cast<std::int64_t>(static_cast<double>(copy.bytes) * static_cast<double>(inside) /
                                                      static_cast<double>(whole))
                          : copy.bytes;
    }
  }
  return s;
}

// A rate as what is counted and what it is counted per.
struct Ratio {
  double amount = 0, per = 0;
};

Ratio ratio_of(const StepSummary& s, Curve curve) {
  const auto seconds = static_cast<double>(s.end_ns - s.start_ns) * 1e-9;
  switch (curve) {
    case Curve::tokens_per_s:
      return {static_cast<double>(s.tokens), seconds};
    case Curve::hit_rate:
      return {static_cast<double>(s.hits), static_cast<double>(s.demands)};
    case Curve::link_bytes_per_s:
      return {static_cast<double>(s.link_bytes), seconds};
    case Curve::copy_hidden_share:
      return {static_cast<double>(s.copy_hidden_ns), static_cast<double>(s.copy_ns)};
    case Curve::stall_s_per_token:
      return {static_cast<double>(s.stall_ns()) * 1e-9, static_cast<double>(s.tokens)};
    case Curve::gpu_busy_share:
      return {static_cast<double>(s.part_ns[static_cast<std::size_t>(TimePart::gpu_compute)]) * 1e-9, seconds};
  }
  return {};
}

}  // namespace

TimeNs StepSummary::stall_ns() const {
  return part_ns[static_cast<std::size_t>(TimePart::demand_wait)] +
         part_ns[static_cast<std::size_t>(TimePart::prefetch_wait)];
}

void StepSummaries::update(const Trace& trace) {
  TimeNs first_new_ns = std::numeric_limits<TimeNs>::max();
  for (std::size_t i = works_seen_; i < trace.works.size(); ++i)
    first_new_ns = std::min(first_new_ns, trace.works[i].start_ns);
  for (std::size_t i = copies_seen_; i < trace.copies.size(); ++i)
    first_new_ns = std::min(first_new_ns, trace.copies[i].start_ns);
  works_seen_ = trace.works.size();
  copies_seen_ = trace.copies.size();
  while (!summaries_.empty() && summaries_.back().end_ns > first_new_ns) summaries_.pop_back();
  IntervalSweep sweep(trace);
  for (std::size_t i = summaries_.size(); i < trace.steps.size(); ++i) {
    summaries_.push_back(summarise(trace, sweep, trace.steps[i]));
  }
}

std::vector<CurveBin> bin_curve(std::span<const StepSummary> steps, Curve curve, CurveAxis axis, double begin,
                                double end, int bins) {
  std::vector<CurveBin> result(static_cast<std::size_t>(std::max(bins, 0)));
  if (result.empty() || !(end > begin)) return result;
  const double width = (end - begin) / bins;
  for (std::size_t i = 0; i < result.size(); ++i) result[i].x = begin + (static_cast<double>(i) + 0.5) * width;
  const auto place = [axis](const StepSummary& s) {
    return axis == CurveAxis::time_ns ? static_cast<double>(s.end_ns) : static_cast<double>(s.first_generated);
  };
  const auto first = std::ranges::lower_bound(steps, begin, {}, place);
  std::vector<Ratio> sums(result.size());
  for (auto s = first; s != steps.end() && place(*s) < end; ++s) {
    if (s->phase != Phase::decode) continue;
    const Ratio ratio = ratio_of(*s, curve);
    if (ratio.per <= 0) continue;
    const auto bin = std::min(static_cast<std::size_t>((place(*s) - begin) / width), result.size() - 1);
    const double value = ratio.amount / ratio.per;
    CurveBin& to = result[bin];
    to.min = to.steps == 0 ? value : std::min(to.min, value);
    to.max = to.steps == 0 ? value : std::max(to.max, value);
    ++to.steps;
    sums[bin].amount += ratio.amount;
    sums[bin].per += ratio.per;
  }
  for (std::size_t i = 0; i < result.size(); ++i) {
    if (result[i].steps > 0) result[i].mean = sums[i].amount / sums[i].per;
  }
  return result;
}

}  // namespace expertscope
