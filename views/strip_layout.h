// The curves above the timeline: which there are, their bins, scales and what is written beside them. Pure.
#pragma once

#include <array>
#include <span>
#include <string>
#include <vector>

#include "engine/run_info.h"
#include "profiler/oracle.h"
#include "profiler/series.h"
#include "views/time_axis.h"

namespace expertscope {

inline constexpr std::array<Curve, 4> kStrips = {Curve::tokens_per_s, Curve::hit_rate, Curve::link_bytes_per_s,
                                                 Curve::stall_s_per_token};

struct StripPoint {
  double x = 0, y = 0, y_min = 0, y_max = 0;  // pixels
  double min = 0, mean = 0, max = 0;          // values
  bool joined = false;                        // the line comes here from the point before
};

// A piece of the oracle's line: one window, or several where they are too narrow to tell apart.
struct OracleSegment {
  double x0 = 0, x1 = 0;  // pixels
  double hit_rate = 0;
};

struct StripLayout {
  Curve curve = Curve::tokens_per_s;
  double y0 = 0, y1 = 0;
  double top_value = 1;  // of the scale; the bottom is 0
  double ceiling = 0;    // what the hardware gives; 0 = none drawn
  std::vector<StripPoint> points;
  std::vector<OracleSegment> oracle = {};  // of the hit rate
  bool has_values = false;
  double min = 0, mean = 0, max = 0;  // of the visible range

  double y_of(double value) const { return y1 - (y1 - y0) * value / top_value; }
};

const char* strip_name(Curve);
std::string strip_value(Curve, double value);

// One strip; `sums` of the decode steps among `visible` give the mean.
StripLayout strip_layout(Curve, std::span<const StepSummary> visible, const RunInfo&, const TimeAxis&, double y0,
                         double y1);

std::vector<OracleSegment> oracle_segments(std::span<const OracleWindow>, const TimeAxis&);

// The visible step under a time: the one that holds it, else the nearest before it; nullptr when there is none.
const StepSummary* summary_at(std::span<const StepSummary>, TimeNs);
double strip_value_of(Curve, const StepSummary&);

}  // namespace expertscope
