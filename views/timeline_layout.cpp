#include "views/timeline_layout.h"

#include <algorithm>
#include <cmath>

namespace expertscope {
namespace {

constexpr double kColumn_px = 2;  // width of a column that sums up many intervals
constexpr double kNarrowestStep_px = 26;
constexpr double kNarrowestLayer_px = 15;  // whose number can be read
constexpr double kNarrowestMark_px = 5;    // for whose experts that were left out there is room

void add_single_boxes(TimelineLane& lane, const Trace& trace, std::span<const LaneItem> items, const TimeAxis& axis) {
  for (const LaneItem& item : items) {
    TimelineBox box{
        .x0 = std::max(axis.x0, axis.x_of(item.start_ns)),
        .x1 = std::min(axis.x1, axis.x_of(item.end_ns)),
        .height = bar_height(item.is_copy ? trace.copies[item.record].precision : trace.works[item.record].precision),
        .record = item.record,
        .kind = item.kind,
        .is_copy = item.is_copy};
    box.x1 = std::max(box.x1, box.x0 + 1);
    lane.boxes.push_back(box);
  }
}

void add_columns(TimelineLane& lane, const TimelineRow& row, const TimeAxis& axis) {
  const auto columns = static_cast<std::size_t>(std::max(1.0, (axis.x1 - axis.x0) / kColumn_px));
  std::vector<LaneSummary> summaries(columns), marked(columns);
  row.items->summarise(axis.range.begin_ns, axis.range.end_ns, summaries);
  if (row.marked) row.marked->summarise(axis.range.begin_ns, axis.range.end_ns, marked);
  const double column_px = (axis.x1 - axis.x0) / static_cast<double>(columns);
  const double column_ns = static_cast<double>(width_ns(axis.range)) / static_cast<double>(columns);
  for (std::size_t i = 0; i < columns; ++i) {
    const LaneSummary& summary = summaries[i];
    if (summary.busy_ns <= 0) continue;
    const double x0 = axis.x0 + static_cast<double>(i) * column_px;
    const auto share = [&](TimeNs busy_ns) { return std::min(1.0, static_cast<double>(busy_ns) / column_ns); };
    lane.boxes.push_back({.x0 = x0,
                          .x1 = x0 + column_px,
                          .fill = share(summary.busy_ns),
                          .marked = share(marked[i].busy_ns),
                          .count = summary.count,
                          .kind = summary.kind,
                          .is_copy = summary.is_copy,
                          .column = true});
  }
}

TimelineLane lay_out_lane(const Trace& trace, const TimelineRow& row, const TimeAxis& axis, double y0, double height) {
  TimelineLane lane{.kind = row.kind, .label = row.label, .y0 = y0, .y1 = y0 + height, .busy_share = 0, .boxes = {}};
  const auto items = row.items->items();
  if (items.empty() || is_empty(axis.range)) return lane;
  const std::size_t first = row.items->first_ending_after(axis.range.begin_ns);
  const auto last = static_cast<std::size_t>(
      std::partition_point(items.begin() + static_cast<std::ptrdiff_t>(first), items.end(),
                           [&](const LaneItem& item) { return item.start_ns < axis.range.end_ns; }) -
      items.begin());
  if (static_cast<double>(last - first) * kColumn_px * 2 > axis.x1 - axis.x0)
    add_columns(lane, row, axis);
  else
    add_single_boxes(lane, trace, items.subspan(first, last - first), axis);
  LaneSummary whole;
  row.items->summarise(axis.range.begin_ns, axis.range.end_ns, {&whole, 1});
  lane.busy_share = static_cast<double>(whole.busy_ns) / static_cast<double>(width_ns(axis.range));
  return lane;
}

void lay_out_steps(TimelineLayout& layout, const Trace& trace) {
  const TimeAxis& axis = layout.axis;
  const auto begin = std::partition_point(trace.steps.begin(), trace.steps.end(),
                                          [&](const StepRecord& s) { return s.end_ns <= axis.range.begin_ns; });
  const auto end = std::partition_point(begin, trace.steps.end(),
                                        [&](const StepRecord& s) { return s.start_ns < axis.range.end_ns; });
  if (begin == end) return;
  const double average_px =
      (axis.x_of((end - 1)->end_ns) - axis.x_of(begin->start_ns)) / static_cast<double>(end - begin);
  std::uint32_t group = 1;
  for (const std::uint32_t multiple : {2u, 5u, 10u})
    if (average_px * group < kNarrowestStep_px) group = multiple;
  while (average_px * group < kNarrowestStep_px && group < 1u << 30) group *= 10;
  for (auto step = begin; step != end;) {
    StepBox box{.x0 = axis.x_of(step->start_ns), .x1 = axis.x_of(step->end_ns), .first_step = step->step, .steps = 1};
    // Groups start at round numbers, so that they stay the same while panning; a prompt always starts its own.
    const std::uint32_t group_of_first = step->first_generated / group;
    const bool decoding = step->phase == Phase::decode;
    for (++step; step != end && group > 1 && decoding && step->phase == Phase::decode &&
                 step->first_generated / group == group_of_first;
         ++step) {
      box.x1 = axis.x_of(step->end_ns);
      ++box.steps;
    }
    layout.steps.push_back(box);
  }
}

void lay_out_layers(TimelineLayout& layout, const Trace& trace) {
  const int layers = trace.info.layers;
  if (layers <= 0 || layers > 4096) return;
  struct Extent {
    TimeNs begin = 0, end = -1;
  };
  std::vector<Extent> extents(static_cast<std::size_t>(layers));
  for (const StepBox& box : layout.steps) {
    if (box.steps > 1 || (box.x1 - box.x0) / layers < kNarrowestMark_px) continue;
    for (const DemandRecord& demand : trace.demands_of(box.first_step))
      if (demand.outcome == Outcome::skipped || demand.outcome == Outcome::substituted)
        layout.left_out.push_back({layout.axis.x_of(demand.asked_ns), demand.outcome == Outcome::substituted});
    if ((box.x1 - box.x0) / layers < kNarrowestLayer_px) continue;
    std::fill(extents.begin(), extents.end(), Extent{});
    for (const WorkRecord& work : trace.works_of(box.first_step)) {
      // A CPU expert may run while the layer before is in work; what waits for it is on a GPU.
      if (work.layer >= layers || work.lane == Lane::cpu) continue;
      Extent& extent = extents[work.layer];
      if (extent.end < extent.begin) extent = {work.start_ns, work.end_ns};
      extent.begin = std::min(extent.begin, work.start_ns);
      extent.end = std::max(extent.end, work.end_ns);
    }
    for (int layer = 0; layer < layers; ++layer) {
      const Extent& extent = extents[static_cast<std::size_t>(layer)];
      if (extent.end <= extent.begin || extent.end <= layout.axis.range.begin_ns ||
          extent.begin >= layout.axis.range.end_ns)
        continue;
      layout.layers.push_back({layout.axis.x_of(extent.begin), layout.axis.x_of(extent.end),
                               static_cast<std::uint16_t>(layer), box.first_step});
    }
  }
}

}  // namespace

double bar_height(Precision precision) {
  switch (precision) {
    case Precision::native:
      return 1;
    case Precision::int8:
      return 0.78;
    case Precision::int4:
      return 0.56;
    case Precision::int2:
      return 0.34;
  }
  return 1;
}

double timeline_height(std::size_t rows, std::size_t wait_rows, const TimelineSizes& sizes) {
  const auto full = static_cast<double>(rows - wait_rows);
  return sizes.ruler + sizes.tokens + sizes.layers + full * (sizes.lane + sizes.gap) +
         static_cast<double>(wait_rows) * (sizes.waits + sizes.gap) + sizes.gap * 2;
}

TimelineLayout timeline_layout(const Trace& trace, std::span<const TimelineRow> rows, const TimeAxis& axis, double top,
                               const TimelineSizes& sizes) {
  TimelineLayout layout;
  layout.axis = axis;
  layout.ruler_y0 = top;
  layout.ruler_y1 = layout.tokens_y0 = top + sizes.ruler;
  layout.tokens_y1 = layout.layers_y0 = layout.tokens_y0 + sizes.tokens;
  layout.layers_y1 = layout.layers_y0 + sizes.layers;
  if (axis.x1 > axis.x0 && !is_empty(axis.range)) {
    lay_out_steps(layout, trace);
    lay_out_layers(layout, trace);
  }
  double y = layout.layers_y1 + sizes.gap;
  for (const TimelineRow& row : rows) {
    const double height = row.kind == RowKind::waits ? sizes.waits : sizes.lane;
    layout.lanes.push_back(lay_out_lane(trace, row, axis, y, height));
    y += height + (row.kind == RowKind::gpu ? 2 : sizes.gap);
  }
  layout.bottom = y;
  return layout;
}

const TimelineLane* lane_at(const TimelineLayout& layout, double y) {
  for (const TimelineLane& lane : layout.lanes)
    if (y >= lane.y0 && y < lane.y1) return &lane;
  return nullptr;
}

const TimelineBox* box_at(const TimelineLane& lane, double x) {
  // Boxes narrower than a pixel were widened to one, so that two may cover the same place: the later wins, as drawn.
  const auto after =
      std::partition_point(lane.boxes.begin(), lane.boxes.end(), [&](const TimelineBox& box) { return box.x0 <= x; });
  if (after == lane.boxes.begin() || x >= (after - 1)->x1) return nullptr;
  return &*(after - 1);
}

const StepBox* step_box_at(const TimelineLayout& layout, double x) {
  for (const StepBox& box : layout.steps)
    if (x >= box.x0 && x < box.x1) return &box;
  return nullptr;
}

const LayerBox* layer_box_at(const TimelineLayout& layout, double x) {
  for (const LayerBox& box : layout.layers)
    if (x >= box.x0 && x < box.x1) return &box;
  return nullptr;
}

}  // namespace expertscope
