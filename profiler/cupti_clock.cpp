#include "profiler/cupti_clock.h"

#include <algorithm>
#include <cmath>

namespace expertscope {
namespace {

// A stepped clock of the host moves far at once; a line between the samples on both sides would smear the step.
constexpr std::int64_t kStepNs = 1'000'000;
constexpr std::size_t kMostSamples = 4096;  // records are never older than these

}  // namespace

void CuptiClock::add_sample(std::int64_t cupti_ns, std::int64_t host_before_ns, std::int64_t host_after_ns) {
  widest_bracket_ns_ = std::max(widest_bracket_ns_, host_after_ns - host_before_ns);
  const std::int64_t host_ns = host_before_ns + (host_after_ns - host_before_ns) / 2;
  // After a step back, times that came twice are taken as the later ones.
  while (!samples_.empty() && samples_.back().cupti_ns >= cupti_ns) samples_.pop_back();
  if (samples_.size() == kMostSamples) samples_.erase(samples_.begin(), samples_.begin() + kMostSamples / 2);
  samples_.push_back({cupti_ns, host_ns - cupti_ns});
}

std::int64_t CuptiClock::to_host(std::int64_t cupti_ns) const {
  if (cupti_ns == 0 || samples_.empty()) return cupti_ns;
  const auto after = std::ranges::lower_bound(samples_, cupti_ns, {}, &Sample::cupti_ns);
  if (after == samples_.begin()) return cupti_ns + after->offset_ns;
  const auto before = std::prev(after);
  if (after == samples_.end()) return cupti_ns + before->offset_ns;
  const std::int64_t change = after->offset_ns - before->offset_ns;
  if (std::abs(change) > kStepNs) return cupti_ns + before->offset_ns;
  const double share =
      static_cast<double>(cupti_ns - before->cupti_ns) / static_cast<double>(after->cupti_ns - before->cupti_ns);
  return cupti_ns + before->offset_ns + std::llround(share * static_cast<double>(change));
}

}  // namespace expertscope
