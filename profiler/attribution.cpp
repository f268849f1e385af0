#include "profiler/attribution.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "profiler/interval_sweep.h"

namespace expertscope {
namespace {

static_assert(static_cast<int>(Activity::gpu_kernel) == 1 << static_cast<int>(TimePart::gpu_compute));
static_assert(static_cast<int>(Activity::profiler) == 1 << static_cast<int>(TimePart::profiler));

void attribute(IntervalSweep& sweep, TimeNs begin_ns, TimeNs end_ns, Attribution& to) {
  sweep.over(begin_ns, end_ns,
             [&](TimeNs length, std::uint16_t activities) { to.ns[first_part(activities)] += length; });
}

}  // namespace

std::size_t first_part(std::uint16_t activities) {
  const auto first = static_cast<std::size_t>(std::countr_zero(activities));
  return std::min(first, static_cast<std::size_t>(TimePart::remainder));
}

std::string_view name(TimePart part) {
  static constexpr std::array<std::string_view, kTimeParts> names = {"gpu_compute",   "cpu_experts",  "demand_wait",
                                                                     "prefetch_wait", "routing_sync", "policy",
                                                                     "sampling",      "profiler",     "remainder"};
  return names[static_cast<std::size_t>(part)];
}

TimeNs Attribution::total_ns() const {
  return std::accumulate(ns.begin(), ns.end(), TimeNs{0});
}

Attribution& Attribution::operator+=(const Attribution& other) {
  for (std::size_t i = 0; i < ns.size(); ++i) ns[i] += other.ns[i];
  tokens += other.tokens;
  return *this;
}

Attribution attribute_interval(const Trace& trace, TimeNs begin_ns, TimeNs end_ns) {
  Attribution result;
  IntervalSweep sweep(trace);
  attribute(sweep, begin_ns, end_ns, result);
  return result;
}

Attribution attribute_step(const Trace& trace, const StepRecord& step) {
  Attribution result = attribute_interval(trace, step.start_ns, step.end_ns);
  result.tokens = step.tokens;
  return result;
}

Attribution attribute_decode(const Trace& trace, TimeRange range) {
  Attribution result;
  IntervalSweep sweep(trace);
  for (std::size_t i = trace.first_step_ending_after(range.begin_ns); i < trace.steps.size(); ++i) {
    const StepRecord& step = trace.steps[i];
    if (step.start_ns >= range.end_ns) break;
    if (step.phase != Phase::decode) continue;
    attribute(sweep, std::max(step.start_ns, range.begin_ns), std::min(step.end_ns, range.end_ns), result);
    if (step.end_ns <= range.end_ns) result.tokens += step.tokens;
  }
  return result;
}

}  // namespace expertscope
