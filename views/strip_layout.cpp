#include "views/strip_layout.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "views/format.h"
#include "views/step_sums.h"

namespace expertscope {
namespace {

constexpr double kBin_px = 2;

double mean_of(Curve curve, const StepSums& sums) {
  switch (curve) {
    case Curve::tokens_per_s:
      return sums.tokens_per_s();
    case Curve::hit_rate:
      return sums.hit_rate();
    case Curve::link_bytes_per_s:
      return sums.link_bytes_per_s();
    case Curve::stall_s_per_token:
      return sums.stall_ns_per_token() / 1e9;
    default:
      return 0;
  }
}

// The lower 49 of 50 values decide: one token that waited for nothing must not flatten all others.
double scale_top(Curve curve, std::vector<double> values, double ceiling) {
  if (curve == Curve::hit_rate) return 1;
  if (values.empty()) return std::max(1.0, ceiling);
  const double highest = *std::max_element(values.begin(), values.end());
  if (ceiling > 0) return std::max(ceiling * 1.12, highest);
  const auto usual = values.begin() + static_cast<std::ptrdiff_t>(static_cast<double>(values.size() - 1) * 0.98);
  std::nth_element(values.begin(), usual, values.end());
  return round_up_nicely(std::min(highest * 1.05, *usual * 1.4));
}

}  // namespace

const char* strip_name(Curve curve) {
  switch (curve) {
    case Curve::tokens_per_s:
      return "Tokens per second";
    case Curve::hit_rate:
      return "Hit rate";
    case Curve::link_bytes_per_s:
      return "Link, host to GPU";
    case Curve::copy_hidden_share:
      return "Copies hidden";
    case Curve::stall_s_per_token:
      return "Exposed stall per token";
    case Curve::gpu_busy_share:
      return "GPU busy";
  }
  return "?";
}

std::string strip_value(Curve curve, double value) {
  switch (curve) {
    case Curve::tokens_per_s:
      return format_tokens_per_s(value);
    case Curve::hit_rate:
    case Curve::copy_hidden_share:
    case Curve::gpu_busy_share:
      return format_percent(value);
    case Curve::link_bytes_per_s:
      return format_rate(value);
    case Curve::stall_s_per_token:
      return format_duration(static_cast<TimeNs>(value * 1e9));
  }
  return "?";
}

double strip_value_of(Curve curve, const StepSummary& step) {
  StepSums sums;
  sums.add(step);
  return mean_of(curve, sums);
}

const StepSummary* summary_at(std::span<const StepSummary> steps, TimeNs t) {
  const auto after =
      std::partition_point(steps.begin(), steps.end(), [&](const StepSummary& s) { return s.start_ns <= t; });
  return after == steps.begin() ? nullptr : &*(after - 1);
}

StripLayout strip_layout(Curve curve, std::span<const StepSummary> visible, const RunInfo& info, const TimeAxis& axis,
                         double y0, double y1) {
  StripLayout strip{.curve = curve, .y0 = y0, .y1 = y1, .points = {}, .oracle = {}};
  if (curve == Curve::link_bytes_per_s) strip.ceiling = info.h2d_bytes_per_s;
  const int bins = std::max(1, static_cast<int>((axis.x1 - axis.x0) / kBin_px));
  const auto curve_bins = bin_curve(visible, curve, CurveAxis::time_ns, static_cast<double>(axis.range.begin_ns),
                                    static_cast<double>(axis.range.end_ns), bins);
  const StepSums sums = decode_sums(visible);
  strip.has_values = sums.steps > 0;
  strip.mean = mean_of(curve, sums);
  std::vector<double> means;
  bool first = true;
  for (const CurveBin& bin : curve_bins) {
    if (bin.steps == 0) continue;
    strip.min = first ? bin.min : std::min(strip.min, bin.min);
    strip.max = first ? bin.max : std::max(strip.max, bin.max);
    first = false;
    means.push_back(bin.mean);
  }
  strip.top_value = scale_top(curve, std::move(means), strip.ceiling);
  const double step_px =
      sums.steps > 0 ? static_cast<double>(sums.time_ns) / static_cast<double>(sums.steps) * axis.px_per_ns() : 0;
  const double widest_gap = std::max(4 * kBin_px, 3 * step_px);
  const auto y_of = [&](double value) { return std::clamp(strip.y_of(value), y0, y1); };
  for (const CurveBin& bin : curve_bins) {
    if (bin.steps == 0) continue;
    StripPoint point{.x = axis.x_of(static_cast<TimeNs>(bin.x)),
                     .y = y_of(bin.mean),
                     .y_min = y_of(bin.min),
                     .y_max = y_of(bin.max),
                     .min = bin.min,
                     .mean = bin.mean,
                     .max = bin.max};
    point.joined = !strip.points.empty() && point.x - strip.points.back().x <= widest_gap;
    strip.points.push_back(point);
  }
  return strip;
}

std::vector<OracleSegment> oracle_segments(std::span<const OracleWindow> windows, const TimeAxis& axis) {
  constexpr double kNarrowest_px = 6;
  std::vector<OracleSegment> segments;
  auto window = std::lower_bound(windows.begin(), windows.end(), axis.range.begin_ns,
                                 [](const OracleWindow& w, TimeNs t) { return w.end_ns <= t; });
  while (window != windows.end() && window->start_ns < axis.range.end_ns) {
    const double x0 = std::max(axis.x0, axis.x_of(window->start_ns));
    OracleWindow together{.demands = 0, .hits = 0};
    double x1 = x0;
    for (; window != windows.end() && window->start_ns < axis.range.end_ns && x1 - x0 < kNarrowest_px; ++window) {
      x1 = std::min(axis.x1, axis.x_of(window->end_ns));
      together.demands += window->demands;
      together.hits += window->hits;
    }
    segments.push_back({.x0 = x0, .x1 = x1, .hit_rate = together.hit_rate()});
  }
  return segments;
}

}  // namespace expertscope
