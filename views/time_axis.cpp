#include "views/time_axis.h"

#include <cmath>

#include "views/format.h"

namespace expertscope {

double round_up_nicely(double value) {
  if (!(value > 0)) return 1;
  const double power = std::pow(10.0, std::floor(std::log10(value)));
  for (const double step : {1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0})
    if (value <= step * power * (1 + 1e-9)) return step * power;
  return 10 * power;
}

std::vector<Tick> time_ticks(const TimeAxis& axis, double spacing_px) {
  std::vector<Tick> ticks;
  if (is_empty(axis.range) || axis.x1 <= axis.x0) return ticks;
  const double wanted_ns = std::max(1.0, spacing_px * axis.ns_per_px());
  const double power = std::pow(10.0, std::floor(std::log10(wanted_ns)));
  double step = power * 10;
  for (const double multiple : {1.0, 2.0, 5.0})
    if (wanted_ns <= multiple * power) {
      step = multiple * power;
      break;
    }
  const TimeNs step_ns = std::max<TimeNs>(1, std::llround(step));
  TimeNs first = axis.range.begin_ns / step_ns * step_ns;
  if (first < axis.range.begin_ns) first += step_ns;
  for (TimeNs t = first; t <= axis.range.end_ns; t += step_ns)
    ticks.push_back({t, axis.x_of(t), format_axis_time(t, step_ns)});
  return ticks;
}

TimeRange zoomed(TimeRange range, TimeNs t, double factor, TimeRange limits) {
  const double width = static_cast<double>(width_ns(range));
  const double widest = std::max(static_cast<double>(width_ns(limits)) * 1.2, static_cast<double>(kNarrowestView_ns));
  const double wanted = std::clamp(width * factor, static_cast<double>(kNarrowestView_ns), widest);
  const double share = width > 0 ? static_cast<double>(t - range.begin_ns) / width : 0.5;
  const TimeNs begin = t - static_cast<TimeNs>(share * wanted);
  return panned({begin, begin + static_cast<TimeNs>(wanted)}, 0, limits);
}

TimeRange panned(TimeRange range, TimeNs dt, TimeRange limits) {
  const TimeNs width = width_ns(range);
  const TimeNs overlap = std::min(width, width_ns(limits)) / 10;
  const TimeNs lowest = limits.begin_ns + overlap - width;
  const TimeNs highest = limits.end_ns - overlap;
  const TimeNs begin = std::clamp(range.begin_ns + dt, std::min(lowest, highest), std::max(lowest, highest));
  return {begin, begin + width};
}

}  // namespace expertscope
