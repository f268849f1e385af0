// Time ranges, and how a range of time lies on a range of pixels. Pure; any thread.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "profiler/metrics.h"

namespace expertscope {

// Two edges in nanoseconds, [begin, end): the profiler's type, with what drawing asks of it.
inline TimeNs width_ns(TimeRange r) {
  return r.end_ns - r.begin_ns;
}
inline bool is_empty(TimeRange r) {
  return r.end_ns <= r.begin_ns;
}
inline bool same(TimeRange a, TimeRange b) {
  return a.begin_ns == b.begin_ns && a.end_ns == b.end_ns;
}

// A view this narrow shows single nanoseconds apart; narrower would show nothing new.
inline constexpr TimeNs kNarrowestView_ns = 200;

struct TimeAxis {
  TimeRange range{0, 1};
  double x0 = 0, x1 = 1;  // pixels of range.begin_ns and range.end_ns

  double px_per_ns() const { return (x1 - x0) / static_cast<double>(std::max<TimeNs>(1, width_ns(range))); }
  double ns_per_px() const { return static_cast<double>(width_ns(range)) / std::max(1.0, x1 - x0); }
  double x_of(TimeNs t) const { return x0 + static_cast<double>(t - range.begin_ns) * px_per_ns(); }
  TimeNs t_of(double x) const { return range.begin_ns + static_cast<TimeNs>((x - x0) * ns_per_px()); }
};

struct Tick {
  TimeNs t = 0;
  double x = 0;
  std::string label;
};

// Round times (1, 2 or 5 times a power of ten) at least `spacing_px` apart.
std::vector<Tick> time_ticks(const TimeAxis&, double spacing_px);

// `factor` < 1 zooms in; `t` stays where it is. The result is no wider than `limits` allows and at least
// kNarrowestView_ns.
TimeRange zoomed(TimeRange, TimeNs t, double factor, TimeRange limits);
// Moved by dt, kept so that at least a tenth of the view overlaps `limits`.
TimeRange panned(TimeRange, TimeNs dt, TimeRange limits);

// A value between 1, 2 or 5 times a power of ten that is not below `value`: a calm upper end for an axis.
double round_up_nicely(double value);

}  // namespace expertscope
