#include "views/strips_view.h"

#include <algorithm>
#include <cmath>

#include "imgui.h"

#include "views/describe.h"
#include "views/format.h"
#include "views/timeline_panel.h"
#include "views/widgets.h"

namespace expertscope {
namespace {

constexpr double kNames_px = 136, kNumbers_px = 104, kFlags_px = 20, kRuler_px = 16;

float f(double value) {
  return static_cast<float>(value);
}

Color strip_color(const Palette& colors, Curve curve) {
  switch (curve) {
    case Curve::tokens_per_s:
      return colors.accent;
    case Curve::hit_rate:
      return colors.hit;
    case Curve::link_bytes_per_s:
      return mix(colors.demand, colors.promotion, 0.5);
    case Curve::stall_s_per_token:
      return colors.demand;
    default:
      return colors.text;
  }
}

struct Canvas {
  const ViewContext& context;
  const TimeAxis& axis;
  ImDrawList& list;
  const Theme& theme;
  const Palette& colors;
  float left, right, top, bottom;
};

void draw_curve(const Canvas& c, const StripLayout& strip) {
  const Color color = strip_color(c.colors, strip.curve);
  const auto& points = strip.points;
  for (std::size_t i = 0; i < points.size(); ++i) {
    const StripPoint& p = points[i];
    if (std::fabs(p.y_min - p.y_max) > 1)
      c.list.AddLine({f(p.x), f(p.y_max)}, {f(p.x), f(p.y_min)}, with_alpha(color, 0.32), 2);
    if (!p.joined) {
      if (i + 1 == points.size() || !points[i + 1].joined)
        c.list.AddCircleFilled({f(p.x), f(p.y)}, c.theme.px(1.5), color);
      continue;
    }
    const StripPoint& before = points[i - 1];
    c.list.AddQuadFilled({f(before.x), f(before.y)}, {f(p.x), f(p.y)}, {f(p.x), f(strip.y1)},
                         {f(before.x), f(strip.y1)}, with_alpha(color, 0.13));
  }
  std::vector<ImVec2> line;
  const auto flush = [&] {
    if (line.size() > 1) c.list.AddPolyline(line.data(), static_cast<int>(line.size()), color, c.theme.px(1.4));
    line.clear();
  };
  for (const StripPoint& p : points) {
    if (!p.joined) flush();
    line.push_back({f(p.x), f(p.y)});
  }
  flush();
}

// What an oracle would have hit in each finished window.
void draw_oracle(const Canvas& c, const StripLayout& strip) {
  for (const OracleSegment& segment : strip.oracle) {
    const float x1 = f(segment.x1), y = std::floor(f(strip.y_of(segment.hit_rate)));
    for (float x = f(segment.x0); x < x1; x += c.theme.px(7))
      c.list.AddLine({x, y}, {std::min(x + c.theme.px(4), x1), y}, c.colors.text, c.theme.px(1.2));
  }
}

void draw_scale(const Canvas& c, const StripLayout& strip) {
  c.list.AddRectFilled({f(c.axis.x0), f(strip.y0)}, {f(c.axis.x1), f(strip.y1)}, with_alpha(c.colors.window, 0.45));
  const float middle = std::floor(f((strip.y0 + strip.y1) / 2));
  c.list.AddLine({f(c.axis.x0), middle}, {f(c.axis.x1), middle}, c.colors.grid);
  if (strip.ceiling > 0) {
    const float y = std::floor(f(strip.y_of(strip.ceiling)));
    for (float x = f(c.axis.x0); x < f(c.axis.x1); x += c.theme.px(9))
      c.list.AddLine({x, y}, {x + c.theme.px(5), y}, c.colors.text_dim);
  }
}

void draw_numbers(const Canvas& c, const StripLayout& strip, const StepSummary* under_cursor) {
  const float height = f(strip.y1 - strip.y0);
  const Color color = strip_color(c.colors, strip.curve);
  c.list.AddRectFilled({c.left, f(strip.y0)}, {c.left + c.theme.px(3), f(strip.y1)}, color, c.theme.px(1.5));
  const float x = c.left + c.theme.px(9);
  const bool two_lines = height >= c.theme.px(34);
  const float y = f(strip.y0) + (height - c.theme.px(two_lines ? 34 : 16)) / 2;
  std::string value = "-";
  if (under_cursor && under_cursor->phase == Phase::decode) {
    value = strip_value(strip.curve, strip_value_of(strip.curve, *under_cursor));
  } else if (strip.has_values) {
    const StepSums& recent = c.context.numbers.recent;
    value = strip.curve == Curve::tokens_per_s       ? strip_value(strip.curve, recent.tokens_per_s())
            : strip.curve == Curve::hit_rate         ? strip_value(strip.curve, recent.hit_rate())
            : strip.curve == Curve::link_bytes_per_s ? strip_value(strip.curve, recent.link_bytes_per_s())
                                                     : strip_value(strip.curve, recent.stall_ns_per_token() / 1e9);
  }
  if (two_lines) {
    draw_text(c.list, c.theme, c.theme.sans, 12, {x, y}, c.colors.text_dim, strip_name(strip.curve));
    draw_text(c.list, c.theme, c.theme.strong, 15, {x, y + c.theme.px(15)},
              under_cursor ? c.colors.accent : c.colors.text, value);
    if (strip.ceiling > 0) {
      const float after = text_size(c.theme, c.theme.strong, 15, value).x + c.theme.px(5);
      draw_text(c.list, c.theme, c.theme.sans, 11, {x + after, y + c.theme.px(19)}, c.colors.text_dim,
                "of " + format_significant(strip.ceiling / 1e9));
    }
  } else {
    draw_text(c.list, c.theme, c.theme.strong, 12, {x, y}, under_cursor ? c.colors.accent : c.colors.text, value);
  }
  if (!strip.has_values) return;
  const std::pair<const char*, double> lines[] = {{"max", strip.max}, {"mean", strip.mean}, {"min", strip.min}};
  const float line = std::min(c.theme.px(15), height / 3);
  const float size_of_text = line >= c.theme.px(13) ? 11 : 10;
  float at = f(strip.y0) + (height - line * 3) / 2;
  for (const auto& [name, number] : lines) {
    if (line >= c.theme.px(11) || name[1] == 'e') {
      const float text_y = line >= c.theme.px(11) ? at : f(strip.y0) + (height - c.theme.px(14)) / 2;
      draw_text(c.list, c.theme, c.theme.sans, size_of_text, {f(c.axis.x1) + c.theme.px(6), text_y},
                c.colors.text_faint, name);
      const std::string text = strip_value(strip.curve, number);
      const ImVec2 size = text_size(c.theme, c.theme.mono, size_of_text, text);
      draw_text(c.list, c.theme, c.theme.mono, size_of_text, {c.right - size.x, text_y},
                name[1] == 'e' ? c.colors.text : c.colors.text_dim, text);
    }
    at += line;
  }
}

void draw_prefills(const Canvas& c, std::span<const StepSummary> visible) {
  for (const StepSummary& step : visible) {
    if (step.phase != Phase::prefill) continue;
    const float x0 = std::max(f(c.axis.x0), f(c.axis.x_of(step.start_ns))),
                x1 = std::min(f(c.axis.x1), f(c.axis.x_of(step.end_ns)));
    if (x1 > x0)
      c.list.AddRectFilled({x0, c.top}, {std::max(x1, x0 + 1), c.bottom}, with_alpha(c.colors.changed, 0.10));
  }
}

// Each flag may reach to where the next one stands.
void draw_flags(const Canvas& c, float y) {
  struct Flag {
    float x;
    std::string text;
    bool dashed;
  };
  std::vector<Flag> flags;
  for (const EpochRecord& epoch : c.context.trace.epochs) {
    const double x = c.axis.x_of(epoch.at_ns);
    if (x >= c.axis.x0 - 0.5 && x <= c.axis.x1) flags.push_back({std::floor(f(x)), epoch_text(epoch), false});
  }
  for (const PendingChange& pending : c.context.pending)
    flags.push_back({std::floor(f(c.axis.x_of(c.context.trace.end_ns()))), pending.text + " …", true});
  float reached = 0;
  for (std::size_t i = 0; i < flags.size(); ++i) {
    float room = i + 1 < flags.size() ? std::max(flags[i + 1].x - c.theme.px(2), flags[i].x + c.theme.px(14)) : c.right;
    // A flag at the right edge hangs to the left instead of being cut off.
    if (flags[i].dashed && room - flags[i].x < c.theme.px(60)) {
      const float width = text_size(c.theme, c.theme.sans, 12, flags[i].text).x + c.theme.px(10);
      const float left = std::max(reached, flags[i].x - width);
      draw_flag(c.list, c.theme, flags[i].x, y, c.bottom, "", flags[i].x, true);
      c.list.AddRectFilled({left, y}, {flags[i].x, y + c.theme.px(18)}, c.colors.marker, c.theme.px(3));
      draw_text(c.list, c.theme, c.theme.sans, 12, {left + c.theme.px(5), y + c.theme.px(2)}, text_on(c.colors.marker),
                fitting(c.theme, c.theme.sans, 12, flags[i].text, flags[i].x - left - c.theme.px(8)));
      continue;
    }
    reached = draw_flag(c.list, c.theme, flags[i].x, y, c.bottom, flags[i].text, room, flags[i].dashed);
  }
  for (const MarkRecord& mark : c.context.trace.marks) {
    const double x = c.axis.x_of(mark.at_ns);
    if (x < c.axis.x0 || x > c.axis.x1) continue;
    c.list.AddLine({f(x), c.top}, {f(x), c.bottom}, c.colors.accent);
    c.list.AddTriangleFilled({f(x) - c.theme.px(4), c.top}, {f(x) + c.theme.px(4), c.top},
                             {f(x), c.top + c.theme.px(6)}, c.colors.accent);
  }
}

void draw_windows(const Canvas& c) {
  const Selection& selection = c.context.selection;
  const auto place = [&](TimeNs t) { return std::clamp(f(c.axis.x_of(t)), f(c.axis.x0), f(c.axis.x1)); };
  if (!is_empty(selection.timeline) && width_ns(selection.timeline) < width_ns(c.axis.range)) {
    const float x0 = place(selection.timeline.begin_ns), x1 = std::max(place(selection.timeline.end_ns), x0 + 2);
    c.list.AddRectFilled({x0, c.top}, {x1, c.bottom}, with_alpha(c.colors.selection, 0.09));
    c.list.AddRect({x0, c.top}, {x1, c.bottom}, with_alpha(c.colors.selection, 0.45), c.theme.px(2));
  }
  if (selection.range) {
    const float x0 = place(selection.range->begin_ns), x1 = std::max(place(selection.range->end_ns), x0 + 1);
    c.list.AddRectFilled({x0, c.top}, {x1, c.bottom}, with_alpha(c.colors.accent, 0.2));
    c.list.AddRect({x0, c.top}, {x1, c.bottom}, c.colors.accent);
  }
  if (selection.step && *selection.step < c.context.trace.steps.size()) {
    const StepRecord& step = c.context.trace.steps[*selection.step];
    const double x = c.axis.x_of(step.start_ns + (step.end_ns - step.start_ns) / 2);
    if (x >= c.axis.x0 && x <= c.axis.x1)
      c.list.AddTriangleFilled({f(x) - c.theme.px(4), c.bottom}, {f(x) + c.theme.px(4), c.bottom},
                               {f(x), c.bottom - c.theme.px(6)}, c.colors.text);
  }
  if (selection.cursor) {
    const float x = std::floor(f(c.axis.x_of(*selection.cursor)));
    if (x >= f(c.axis.x0) && x <= f(c.axis.x1))
      c.list.AddLine({x, c.top}, {x, c.bottom}, with_alpha(c.colors.selection, 0.55));
  }
}

}  // namespace

void StripsView::handle_mouse(ViewContext& context, const TimeAxis& axis) {
  Selection& selection = context.selection;
  const ImGuiIO& io = ImGui::GetIO();
  const bool hovered = ImGui::IsItemHovered() && io.MousePos.x >= axis.x0 && io.MousePos.x <= axis.x1;
  const TimeNs t = axis.t_of(std::clamp<double>(io.MousePos.x, axis.x0, axis.x1));
  if (hovered) selection.next_cursor = t;
  ImGui::SetItemKeyOwner(ImGuiKey_MouseWheelY);
  if (hovered && io.MouseWheel != 0) {
    selection.strips = zoomed(selection.strips, t, std::exp(-0.25 * io.MouseWheel), context.session());
    selection.fit_strips = selection.strips.begin_ns <= 0 && selection.strips.end_ns >= context.trace.end_ns();
  }
  if (hovered && ImGui::IsMouseClicked(ImGuiMouseButton_Left)) {
    if (io.KeyCtrl)
      drag_from_ = t;
    else
      moving_window_ = true;
  }
  if (hovered && ImGui::IsMouseClicked(ImGuiMouseButton_Right)) panning_ = true;
  if (hovered && ImGui::IsMouseDoubleClicked(ImGuiMouseButton_Left)) selection.fit_strips = true;
  if (drag_from_ && t != *drag_from_) selection.range = TimeRange{std::min(*drag_from_, t), std::max(*drag_from_, t)};
  if (moving_window_) {
    const TimeNs width = width_ns(selection.timeline);
    selection.timeline = panned({t - width / 2, t - width / 2 + width}, 0, context.session());
    selection.follow = false;
  }
  if (panning_ && io.MouseDelta.x != 0) {
    selection.strips =
        panned(selection.strips, -static_cast<TimeNs>(io.MouseDelta.x * axis.ns_per_px()), context.session());
    selection.fit_strips = false;
  }
  if (!ImGui::IsMouseDown(ImGuiMouseButton_Left)) {
    drag_from_.reset();
    moving_window_ = false;
  }
  if (!ImGui::IsMouseDown(ImGuiMouseButton_Right)) panning_ = false;
}

void StripsView::draw(ViewContext& context) {
  if (context.empty()) {
    draw_no_run(context, "No tokens yet",
                "Tokens per second, hit rate, link and stalls are drawn here while tokens flow, with a flag where you "
                "change something.");
    return;
  }
  const Theme& theme = context.theme;
  Selection& selection = context.selection;
  if (selection.fit_strips || is_empty(selection.strips))
    selection.strips = {0, std::max<TimeNs>(1000, context.trace.end_ns())};

  const ImVec2 at = ImGui::GetCursorScreenPos();
  const ImVec2 room = ImGui::GetContentRegionAvail();
  if (room.x < theme.px(kNames_px + kNumbers_px + 40) || room.y < theme.px(60)) return;
  ImGui::InvisibleButton("##strips", room, ImGuiButtonFlags_MouseButtonLeft | ImGuiButtonFlags_MouseButtonRight);
  TimeAxis axis{selection.strips, std::floor(at.x + theme.px(kNames_px)),
                std::floor(at.x + room.x - theme.px(kNumbers_px))};
  handle_mouse(context, axis);
  axis.range = selection.strips;

  const float flags_y = at.y, top = at.y + theme.px(kFlags_px), bottom = at.y + room.y - theme.px(kRuler_px);
  const auto visible = steps_within(context.index.steps.steps(), axis.range);
  const bool current = trace_ == &context.trace && revision_ == context.trace.revision() &&
                       same(axis_.range, axis.range) && axis_.x0 == axis.x0 && axis_.x1 == axis.x1 && top_ == top &&
                       bottom_ == bottom;
  if (!current) {
    const double gap = theme.px(5), height = std::max(10.0, (bottom - top - gap * (kStrips.size() - 1)) /
                                                                static_cast<double>(kStrips.size()));
    for (std::size_t i = 0; i < kStrips.size(); ++i) {
      const double y0 = std::floor(top + static_cast<double>(i) * (height + gap));
      strips_[i] = strip_layout(kStrips[i], visible, context.trace.info, axis, y0, std::floor(y0 + height));
      if (kStrips[i] == Curve::hit_rate) strips_[i].oracle = oracle_segments(context.index.oracle.windows(), axis);
    }
    trace_ = &context.trace;
    revision_ = context.trace.revision();
    axis_ = axis;
    top_ = top;
    bottom_ = bottom;
  }
  ImDrawList& list = *ImGui::GetWindowDrawList();
  const Canvas canvas{context, axis, list, theme, context.colors(), at.x, at.x + room.x, top, bottom};
  const StepSummary* under_cursor =
      selection.cursor && axis.range.contains(*selection.cursor) ? summary_at(visible, *selection.cursor) : nullptr;
  for (const StripLayout& strip : strips_) draw_scale(canvas, strip);
  for (const Tick& tick : time_ticks(axis, theme.px(90))) {
    const float x = std::floor(f(tick.x));
    list.AddLine({x, top}, {x, bottom + theme.px(3)}, context.colors().grid);
    const ImVec2 size = text_size(theme, theme.sans, 11, tick.label);
    if (x - size.x / 2 > at.x && x + size.x / 2 < at.x + room.x)
      draw_text(list, theme, theme.sans, 11, {x - size.x / 2, bottom + theme.px(4)}, context.colors().text_dim,
                tick.label);
  }
  list.PushClipRect({f(axis.x0), at.y}, {f(axis.x1) + 1, at.y + room.y}, true);
  draw_prefills(canvas, visible);
  for (const StripLayout& strip : strips_) {
    draw_curve(canvas, strip);
    draw_oracle(canvas, strip);
  }
  draw_windows(canvas);
  list.PopClipRect();
  for (const StripLayout& strip : strips_) draw_numbers(canvas, strip, under_cursor);
  list.PushClipRect({f(axis.x0), at.y}, {at.x + room.x, at.y + room.y}, true);
  draw_flags(canvas, flags_y);
  list.PopClipRect();
}

}  // namespace expertscope
