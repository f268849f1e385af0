// What a token waited for: every nanosecond of a step goes to the first thing in this list that held at that moment.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "profiler/metrics.h"
#include "profiler/trace.h"

namespace expertscope {

enum class TimePart : std::uint8_t {
  gpu_compute,    // a GPU kernel ran
  cpu_experts,    // a CPU expert ran
  demand_wait,    // a demand copy was waited for
  prefetch_wait,  // a prefetch, promotion or placement in flight was waited for
  routing_sync,   // the router's result or activations were waited for
  policy,
  sampling,
  profiler,
  remainder,  // nothing that was recorded
};
inline constexpr int kTimeParts = 9;
std::string_view name(TimePart);  // as in the report: "gpu_compute"

struct Attribution {
  std::array<TimeNs, kTimeParts> ns{};
  std::uint64_t tokens = 0;  // forwarded by the steps: what "per token" divides by
  TimeNs operator[](TimePart part) const { return ns[static_cast<std::size_t>(part)]; }
  TimeNs total_ns() const;
  Attribution& operator+=(const Attribution&);
};

// The part (as an index) that a moment belongs to, given what goes on (bits of Activity, interval_sweep.h).
std::size_t first_part(std::uint16_t activities);

// Any stretch of time, of whatever phase. The parts sum to its length.
Attribution attribute_interval(const Trace&, TimeNs begin_ns, TimeNs end_ns);
Attribution attribute_step(const Trace&, const StepRecord&);
// All decode steps of a stretch, cut at its edges; tokens of those that end in it.
Attribution attribute_decode(const Trace&, TimeRange = {});

}  // namespace expertscope
