// Where everything in the timeline lies: computed first, drawn by timeline_view.cpp. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "profiler/trace.h"
#include "views/time_axis.h"
#include "views/timeline_rows.h"

namespace expertscope {

struct TimelineSizes {  // pixels
  double ruler = 22, tokens = 20, layers = 16, lane = 30, waits = 18, gap = 5;
};

// One interval, or a narrow column that sums up many.
struct TimelineBox {
  double x0 = 0, x1 = 0;
  double fill = 1;           // share of the column's time that is busy; 1 for a single interval
  double marked = 0;         // share of the column's time that the row's marked items are busy
  double height = 1;         // of its lane, single interval: below native precision it is lower
  std::uint32_t record = 0;  // of a single interval
  std::uint32_t count = 1;
  std::uint8_t kind = 0;  // WorkKind or CopyReason; the one with the most time in a column
  bool is_copy = false;
  bool column = false;
};

struct TimelineLane {
  RowKind kind = RowKind::gpu;
  std::string label;
  double y0 = 0, y1 = 0;
  double busy_share = 0;           // of the visible time
  std::vector<TimelineBox> boxes;  // from left to right
};

struct StepBox {  // one step, or several neighbours when they are too narrow to tell apart
  double x0 = 0, x1 = 0;
  std::uint32_t first_step = 0, steps = 1;
};

struct LayerBox {
  double x0 = 0, x1 = 0;
  std::uint16_t layer = 0;
  std::uint32_t step = 0;
};

// A demand that nothing ran for, at the time at which its router asked for it.
struct LeftOutMark {
  double x = 0;
  bool substituted = false;  // another expert ran for it
};

struct TimelineLayout {
  TimeAxis axis;
  double ruler_y0 = 0, ruler_y1 = 0, tokens_y0 = 0, tokens_y1 = 0, layers_y0 = 0, layers_y1 = 0, bottom = 0;
  std::vector<StepBox> steps;
  std::vector<LayerBox> layers;       // empty when they would be too narrow to read
  std::vector<LeftOutMark> left_out;  // where they can be told apart
  std::vector<TimelineLane> lanes;
};

// Costs O(pixels * log records) at every zoom.
TimelineLayout timeline_layout(const Trace&, std::span<const TimelineRow>, const TimeAxis&, double top,
                               const TimelineSizes&);

// Share of its lane that a bar is high: the fewer bits, the lower.
double bar_height(Precision);

const TimelineLane* lane_at(const TimelineLayout&, double y);
const TimelineBox* box_at(const TimelineLane&, double x);
const StepBox* step_box_at(const TimelineLayout&, double x);
const LayerBox* layer_box_at(const TimelineLayout&, double x);

// Height that the rows need.
double timeline_height(std::size_t rows, std::size_t wait_rows, const TimelineSizes&);

}  // namespace expertscope
