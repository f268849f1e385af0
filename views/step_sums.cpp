#include "views/step_sums.h"

#include <algorithm>
#include <numeric>

namespace expertscope {

void StepSums::add(const StepSummary& s) {
  time_ns += s.end_ns - s.start_ns;
  stall_ns += s.stall_ns();
  link_bytes += s.link_bytes;
  tokens += s.tokens;
  demands += s.demands;
  hits += s.hits;
  ++steps;
  for (std::size_t i = 0; i < part_ns.size(); ++i) part_ns[i] += s.part_ns[i];
}

std::span<const StepSummary> steps_within(std::span<const StepSummary> steps, TimeRange range) {
  const auto first = std::partition_point(steps.begin(), steps.end(),
                                          [&](const StepSummary& s) { return s.end_ns <= range.begin_ns; });
  const auto last =
      std::partition_point(first, steps.end(), [&](const StepSummary& s) { return s.start_ns < range.end_ns; });
  return {first, last};
}

StepSums decode_sums(std::span<const StepSummary> steps) {
  StepSums sums;
  for (const StepSummary& step : steps)
    if (step.phase == Phase::decode) sums.add(step);
  return sums;
}

StepSums recent_decode_sums(std::span<const StepSummary> steps, std::uint64_t tokens) {
  StepSums sums;
  for (auto step = steps.rbegin(); step != steps.rend() && sums.tokens < tokens; ++step)
    if (step->phase == Phase::decode) sums.add(*step);
  return sums;
}

Bottleneck bottleneck(const std::array<TimeNs, kTimeParts>& parts) {
  const auto of = [&](TimePart part) { return parts[static_cast<std::size_t>(part)]; };
  const TimeNs total = std::accumulate(parts.begin(), parts.end(), TimeNs{0});
  if (total <= 0) return {};
  struct Group {
    const char *name, *detail;
    TimeNs ns;
  };
  const std::array<Group, 5> groups = {
      {{"link", "waits for copies", of(TimePart::demand_wait) + of(TimePart::prefetch_wait)},
       {"GPU", "GPU compute", of(TimePart::gpu_compute)},
       {"CPU experts", "CPU experts", of(TimePart::cpu_experts)},
       {"host", "routing, policy",
        of(TimePart::routing_sync) + of(TimePart::policy) + of(TimePart::sampling) + of(TimePart::profiler)},
       {"unrecorded time", "not recorded", of(TimePart::remainder)}}};
  const Group& largest =
      *std::max_element(groups.begin(), groups.end(), [](const Group& a, const Group& b) { return a.ns < b.ns; });
  return {largest.name, largest.detail, static_cast<double>(largest.ns) / static_cast<double>(total)};
}

}  // namespace expertscope
