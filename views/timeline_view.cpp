#include "views/timeline_view.h"

#include <algorithm>
#include <cmath>

#include "imgui.h"
#include <fmt/format.h>

#include "views/describe.h"
#include "views/format.h"
#include "views/timeline_draw.h"
#include "views/timeline_panel.h"
#include "views/widgets.h"

namespace expertscope {
namespace {

constexpr std::uint64_t kFollowedTokens = 4;
constexpr double kLabels_px = 74;
constexpr double kEdge_px = 5;

// The last few tokens with a little room after them.
TimeRange newest_tokens(const Trace& trace) {
  const TimeNs end = std::max<TimeNs>(trace.end_ns(), 1000);
  TimeNs begin = 0;
  if (!trace.steps.empty())
    begin = trace.steps[trace.steps.size() - std::min<std::size_t>(trace.steps.size(), kFollowedTokens)].start_ns;
  return {begin, end + (end - begin) / 50};
}

}  // namespace

void TimelineView::choose_range(ViewContext& context) {
  Selection& selection = context.selection;
  const TimeNs end = context.trace.end_ns();
  if (ready_for_ != &context.trace || !ready_ || is_empty(selection.timeline)) {
    ready_for_ = &context.trace;
    ready_ = !context.empty();
    selection.timeline = newest_tokens(context.trace);
    selection.follow = true;
  } else if (selection.follow && end != known_end_ns_) {
    const TimeNs width = width_ns(selection.timeline);
    // Until a few tokens are there the view grows with them; then it moves.
    if (context.trace.steps.size() <= kFollowedTokens + 1)
      selection.timeline = newest_tokens(context.trace);
    else
      selection.timeline = {end + width / 50 - width, end + width / 50};
  }
  known_end_ns_ = end;
}

void TimelineView::zoom(ViewContext& context, double factor) {
  Selection& selection = context.selection;
  const TimeNs centre = selection.cursor && selection.timeline.contains(*selection.cursor)
                            ? *selection.cursor
                            : selection.timeline.begin_ns + width_ns(selection.timeline) / 2;
  selection.timeline =
      zoomed(selection.timeline, selection.follow ? selection.timeline.end_ns : centre, factor, context.session());
}

void TimelineView::pan(ViewContext& context, double share_of_width) {
  Selection& selection = context.selection;
  selection.timeline = panned(selection.timeline,
                              static_cast<TimeNs>(static_cast<double>(width_ns(selection.timeline)) * share_of_width),
                              context.session());
  selection.follow = false;
}

void TimelineView::follow(ViewContext& context) {
  context.selection.follow = true;
  known_end_ns_ = -1;
}

void TimelineView::fit_selection(ViewContext& context) {
  Selection& selection = context.selection;
  if (selection.range) {
    selection.look_at(*selection.range, context.session());
  } else if (selection.pinned) {
    if (selection.pinned->is_copy && selection.pinned->record < context.trace.copies.size()) {
      const CopyRecord& copy = context.trace.copies[selection.pinned->record];
      selection.look_at({copy.start_ns, copy.end_ns}, context.session());
    } else if (!selection.pinned->is_copy && selection.pinned->record < context.trace.works.size()) {
      const WorkRecord& work = context.trace.works[selection.pinned->record];
      selection.look_at({work.start_ns, work.end_ns}, context.session());
    }
  } else if (selection.step && *selection.step < context.trace.steps.size()) {
    const StepRecord& step = context.trace.steps[*selection.step];
    selection.look_at({step.start_ns, step.end_ns}, context.session());
  } else {
    selection.timeline = {0, std::max<TimeNs>(1000, context.trace.end_ns())};
    selection.follow = false;
  }
}

void TimelineView::step_to_neighbour(ViewContext& context, int direction) {
  std::optional<PinnedItem>& pinned = context.selection.pinned;
  if (!pinned) return;
  for (const TimelineRow& row : context.index.rows.rows(context.trace)) {
    const auto items = row.items->items();
    const TimeNs start =
        pinned->is_copy
            ? (pinned->record < context.trace.copies.size() ? context.trace.copies[pinned->record].start_ns : 0)
            : (pinned->record < context.trace.works.size() ? context.trace.works[pinned->record].start_ns : 0);
    auto item = std::partition_point(items.begin(), items.end(), [&](const LaneItem& i) { return i.start_ns < start; });
    while (item != items.end() && item->start_ns == start &&
           !(item->record == pinned->record && item->is_copy == pinned->is_copy))
      ++item;
    if (item == items.end() || item->start_ns != start) continue;
    const auto place = (item - items.begin()) + direction;
    if (place < 0 || place >= static_cast<std::ptrdiff_t>(items.size())) return;
    const LaneItem& next = items[static_cast<std::size_t>(place)];
    pinned = PinnedItem{next.record, next.is_copy};
    if (!context.selection.timeline.contains(next.start_ns) || !context.selection.timeline.contains(next.end_ns - 1)) {
      const TimeNs width = width_ns(context.selection.timeline);
      context.selection.timeline =
          panned({next.start_ns - width / 2, next.start_ns - width / 2 + width}, 0, context.session());
    }
    context.selection.follow = false;
    return;
  }
}

void TimelineView::draw_toolbar(ViewContext& context) {
  const Theme& theme = context.theme;
  Selection& selection = context.selection;
  const float edge = ImGui::GetCursorPosX() + ImGui::GetContentRegionAvail().x;
  if (context.status.live && !selection.follow) {
    if (icon_button(theme, "##follow", Icon::play, "Follow", 0, true)) follow(context);
    if (ImGui::IsItemHovered(ImGuiHoveredFlags_ForTooltip))
      ImGui::SetTooltip("Move with the live data again (Space or End)");
  } else {
    if (ImGui::Button("Fit")) fit_selection(context);
    if (ImGui::IsItemHovered(ImGuiHoveredFlags_ForTooltip))
      ImGui::SetTooltip("Fit the selection, or the whole session, into view (F)");
  }
  const std::string shown = fmt::format("{} in view", format_duration(width_ns(selection.timeline)));
  const float shown_width = text_size(theme, theme.sans, theme.small_font(), shown).x;
  ImGui::PushFont(nullptr, theme.small_font());
  draw_timeline_legend(context, ImGui::GetWindowPos().x + edge - shown_width - theme.px(8));
  ImGui::SameLine(edge - shown_width);
  ImGui::AlignTextToFramePadding();
  text_dim(theme, shown);
  ImGui::PopFont();
}

void TimelineView::handle_mouse(ViewContext& context, const TimeAxis& axis) {
  Selection& selection = context.selection;
  const ImGuiIO& io = ImGui::GetIO();
  const bool hovered = ImGui::IsItemHovered();
  const double x = std::clamp<double>(io.MousePos.x, axis.x0, axis.x1);
  const TimeNs t = axis.t_of(x);
  if (hovered && io.MousePos.x >= axis.x0) selection.next_cursor = t;
  ImGui::SetItemKeyOwner(ImGuiKey_MouseWheelY);
  if (hovered && io.MouseWheel != 0) {
    if (io.KeyShift && !io.KeyCtrl) {
      pan(context, -io.MouseWheel * 0.1);
    } else {
      const double strength = io.KeyCtrl ? 0.07 : 0.25;
      selection.timeline = zoomed(selection.timeline, selection.follow ? selection.timeline.end_ns : t,
                                  std::exp(-strength * io.MouseWheel), context.session());
    }
  }
  if (hovered && io.MouseWheelH != 0) pan(context, io.MouseWheelH * 0.1);

  const bool near_edges = selection.range && hovered && !drag_from_;
  const auto near = [&](TimeNs edge) { return std::fabs(axis.x_of(edge) - io.MousePos.x) <= kEdge_px; };
  const Edge under = !near_edges                       ? Edge::none
                     : near(selection.range->begin_ns) ? Edge::begin
                     : near(selection.range->end_ns)   ? Edge::end
                                                       : Edge::none;
  if (under != Edge::none || edge_ != Edge::none) ImGui::SetMouseCursor(ImGuiMouseCursor_ResizeEW);

  if (hovered && ImGui::IsMouseClicked(ImGuiMouseButton_Left)) {
    if (under != Edge::none)
      edge_ = under;
    else if (io.KeyCtrl)
      drag_from_ = t;
    else if (io.KeyShift)
      panning_ = true;
  }
  if (hovered && ImGui::IsMouseClicked(ImGuiMouseButton_Right)) panning_ = true;
  if (hovered && ImGui::IsMouseClicked(ImGuiMouseButton_Middle)) drag_from_ = t, zooming_ = true;

  if (panning_ && io.MouseDelta.x != 0) {
    selection.timeline =
        panned(selection.timeline, -static_cast<TimeNs>(io.MouseDelta.x * axis.ns_per_px()), context.session());
    selection.follow = false;
  }
  if (edge_ == Edge::begin && selection.range) selection.range->begin_ns = std::min(t, selection.range->end_ns - 1);
  if (edge_ == Edge::end && selection.range) selection.range->end_ns = std::max(t, selection.range->begin_ns + 1);
  if (drag_from_ && t != *drag_from_)
    pinned_in_front_ = false, selection.range = TimeRange{std::min(*drag_from_, t), std::max(*drag_from_, t)};
  if (!ImGui::IsMouseDown(ImGuiMouseButton_Left) && !ImGui::IsMouseDown(ImGuiMouseButton_Middle)) {
    if (zooming_ && selection.range) {
      if (axis.x_of(selection.range->end_ns) - axis.x_of(selection.range->begin_ns) > 3)
        selection.timeline = *selection.range, selection.follow = false;
      selection.range.reset();
    }
    drag_from_.reset();
    zooming_ = false;
    edge_ = Edge::none;
  }
  if (!ImGui::IsMouseDown(ImGuiMouseButton_Right) && !ImGui::IsMouseDown(ImGuiMouseButton_Left)) panning_ = false;
}

void TimelineView::hover(ViewContext& context, const TimelineLayout& layout) {
  Selection& selection = context.selection;
  const ImVec2 mouse = ImGui::GetIO().MousePos;
  if (mouse.x < layout.axis.x0 || drag_from_ || panning_ || edge_ != Edge::none) return;
  const bool clicked = ImGui::IsMouseReleased(ImGuiMouseButton_Left) &&
                       ImGui::GetIO().MouseDragMaxDistanceSqr[ImGuiMouseButton_Left] < 16 && !ImGui::GetIO().KeyCtrl;
  const bool twice = ImGui::IsMouseDoubleClicked(ImGuiMouseButton_Left);
  if (mouse.y >= layout.tokens_y0 && mouse.y < layout.tokens_y1) {
    if (const StepBox* box = step_box_at(layout, mouse.x); box && box->first_step < context.trace.steps.size()) {
      const StepRecord& step = context.trace.steps[box->first_step];
      if (box->steps == 1) {
        const Description d = describe_step(context.trace, step, context.index.inexact.of(step.step),
                                            context.index.fates.issued_in(step.step));
        tooltip(context.theme, d.title, d.lines);
      } else {
        tooltip(context.theme, fmt::format("{} tokens from {}", box->steps, step.first_generated),
                {{"click", "choose the first"}, {"double-click", "zoom to them"}});
      }
      if (clicked) selection.step = step.step;
      if (twice)
        selection.look_at({step.start_ns, context.trace.steps[box->first_step + box->steps - 1].end_ns},
                          context.session());
    }
    return;
  }
  if (mouse.y >= layout.layers_y0 && mouse.y < layout.layers_y1) {
    if (const LayerBox* box = layer_box_at(layout, mouse.x)) {
      const Description d = describe_layer(context.trace, box->step, box->layer);
      tooltip(context.theme, d.title, d.lines);
    }
    return;
  }
  const TimelineLane* lane = lane_at(layout, mouse.y);
  const TimelineBox* box = lane ? box_at(*lane, mouse.x) : nullptr;
  if (clicked && !box) selection.pinned.reset();
  if (!box) return;
  if (box->column) {
    const std::string what = box->is_copy ? readable(name(static_cast<CopyReason>(box->kind))) + " copies"
                                          : work_name(static_cast<WorkKind>(box->kind));
    tooltip(context.theme, fmt::format("{}: {} {}", lane->label, box->count, box->count == 1 ? "item" : "items"),
            {{"busy", format_percent(box->fill)}, {"mostly", what}, {"double-click", "zoom in"}});
    if (twice) {
      selection.timeline =
          zoomed(layout.axis.range, layout.axis.t_of((box->x0 + box->x1) / 2), 0.05, context.session());
      selection.follow = false;
    }
    return;
  }
  const PinnedItem item{box->record, box->is_copy};
  const Description d = describe_item(context, item);
  tooltip(context.theme, d.title, d.lines);
  if (clicked) {
    selection.pinned = item;
    pinned_in_front_ = true;
    if (d.expert) selection.expert = d.expert;
    if (d.step) selection.step = d.step;
  }
  if (twice) {
    selection.pinned = item;
    fit_selection(context);
  }
}

void TimelineView::draw_canvas(ViewContext& context, float height) {
  const Theme& theme = context.theme;
  const ImVec2 at = ImGui::GetCursorScreenPos();
  const float width = std::max(ImGui::GetContentRegionAvail().x, theme.px(120));
  ImGui::InvisibleButton(
      "##canvas", {width, height},
      ImGuiButtonFlags_MouseButtonLeft | ImGuiButtonFlags_MouseButtonRight | ImGuiButtonFlags_MouseButtonMiddle);
  TimeAxis axis{context.selection.timeline, std::floor(at.x + theme.px(kLabels_px)), std::floor(at.x + width)};
  handle_mouse(context, axis);
  axis.range = context.selection.timeline;

  const auto rows = context.index.rows.rows(context.trace);
  const auto waits = static_cast<std::size_t>(
      std::count_if(rows.begin(), rows.end(), [](const TimelineRow& row) { return row.kind == RowKind::waits; }));
  TimelineSizes sizes{.ruler = theme.px(20),
                      .tokens = theme.px(20),
                      .layers = theme.px(15),
                      .lane = theme.px(10),
                      .waits = theme.px(8),
                      .gap = theme.px(4)};
  // Lanes share the height that is there, within what is readable.
  const double spare = height - timeline_height(rows.size(), waits, sizes);
  const double share = spare / (static_cast<double>(rows.size() - waits) + 0.6 * static_cast<double>(waits));
  sizes.lane = std::clamp(sizes.lane + share, theme.px(10.0) * 1.0, theme.px(88) * 1.0);
  sizes.waits = std::clamp(sizes.waits + share * 0.6, theme.px(8.0) * 1.0, theme.px(48) * 1.0);
  sizes.lane = std::floor(sizes.lane);
  sizes.waits = std::floor(sizes.waits);

  const bool current = layout_trace_ == &context.trace && layout_revision_ == context.trace.revision() &&
                       same(layout_.axis.range, axis.range) && layout_.axis.x0 == axis.x0 &&
                       layout_.axis.x1 == axis.x1 && layout_.ruler_y0 == at.y && layout_.lanes.size() == rows.size() &&
                       !layout_.lanes.empty() && layout_.lanes[0].y1 - layout_.lanes[0].y0 == sizes.lane;
  if (!current) layout_ = timeline_layout(context.trace, rows, axis, at.y, sizes);
  layout_trace_ = &context.trace;
  layout_revision_ = context.trace.revision();

  ImDrawList& list = *ImGui::GetWindowDrawList();
  list.PushClipRect(at, {at.x + width, at.y + height}, true);
  draw_timeline(context, layout_, list, at.x, std::min(static_cast<float>(layout_.bottom), at.y + height));
  list.PopClipRect();
  if (ImGui::IsItemHovered()) hover(context, layout_);
}

void TimelineView::draw(ViewContext& context) {
  choose_range(context);
  if (context.empty()) {
    draw_no_run(context, "The timeline is empty",
                "Lanes of the GPU, the link and the CPU appear here as soon as the first token is computed.");
    return;
  }
  draw_toolbar(context);
  const float panel = timeline_panel_height(context);
  draw_canvas(context, std::max(context.theme.px(80), ImGui::GetContentRegionAvail().y - panel));
  draw_timeline_panel(context, statistics_, pinned_in_front_);
}

}  // namespace expertscope
