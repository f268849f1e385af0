#include "views/timeline_draw.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include <fmt/format.h>

#include "views/format.h"
#include "views/token_layout.h"
#include "views/widgets.h"

namespace expertscope {
namespace {

struct Canvas {
  const ViewContext& context;
  const TimelineLayout& layout;
  ImDrawList& list;
  const Theme& theme;
  const Palette& colors;
  float left, bottom;
};

float f(double value) {
  return static_cast<float>(value);
}

void draw_ruler(const Canvas& c) {
  const auto& layout = c.layout;
  c.list.AddRectFilled({f(layout.axis.x0), f(layout.ruler_y0)}, {f(layout.axis.x1), f(layout.ruler_y1)},
                       c.colors.panel);
  for (const Tick& tick : time_ticks(layout.axis, c.theme.px(96))) {
    const float x = std::floor(f(tick.x));
    c.list.AddLine({x, f(layout.ruler_y1) - c.theme.px(5)}, {x, c.bottom}, c.colors.grid);
    draw_text(c.list, c.theme, c.theme.sans, 11, {x + c.theme.px(3), f(layout.ruler_y0) + c.theme.px(3)},
              c.colors.text_dim, tick.label);
  }
}

// As in Tokens. Of many steps in one box the first ones decide.
bool any_inexact(const Canvas& c, const StepBox& box) {
  constexpr std::uint32_t kLookedAt = 16;
  for (std::uint32_t i = 0; i < std::min(box.steps, kLookedAt); ++i)
    if (c.context.index.inexact.of(box.first_step + i).any()) return true;
  return false;
}

void draw_tokens(const Canvas& c) {
  const auto& layout = c.layout;
  const float y0 = f(layout.tokens_y0), y1 = f(layout.tokens_y1);
  for (const StepBox& box : layout.steps) {
    if (box.first_step >= c.context.trace.steps.size()) continue;
    const StepRecord& step = c.context.trace.steps[box.first_step];
    const float x0 = std::max(f(layout.axis.x0), f(box.x0)), x1 = std::min(f(layout.axis.x1), f(box.x1));
    if (x1 <= x0) continue;
    const bool chosen = c.context.selection.step && *c.context.selection.step >= box.first_step &&
                        *c.context.selection.step < box.first_step + box.steps;
    const Color ground = chosen                         ? mix(c.colors.panel, c.colors.accent, 0.45)
                         : step.phase == Phase::prefill ? mix(c.colors.raised, c.colors.changed, 0.18)
                                                        : c.colors.raised;
    c.list.AddRectFilled({x0, y0 + 1}, {std::max(x0 + 1, x1 - 1), y1 - 1}, ground, c.theme.px(2));
    if (any_inexact(c, box))
      c.list.AddRectFilled({x0, y1 - c.theme.px(3)}, {std::max(x0 + 1, x1 - 1), y1 - 1}, c.colors.changed);
    c.list.AddLine({std::floor(f(box.x0)), y1}, {std::floor(f(box.x0)), c.bottom}, with_alpha(c.colors.text_dim, 0.28));
    std::string label = step.phase == Phase::prefill ? fmt::format("prompt, {} tokens", step.tokens)
                        : box.steps > 1              ? fmt::format("{}…", step.first_generated)
                                                     : fmt::format("{}", step.first_generated);
    if (box.steps == 1 && step.phase == Phase::decode && x1 - x0 > c.theme.px(64))
      if (const auto token = c.context.index.tokens.sampled_by(step.step))
        label += "  " + token_text(c.context.trace, c.context.trace.tokens[*token].id);
    const std::string shown = fitting(c.theme, c.theme.sans, 12, label, x1 - x0 - c.theme.px(8));
    draw_text(c.list, c.theme, c.theme.sans, 12, {x0 + c.theme.px(4), y0 + (y1 - y0 - c.theme.px(15)) / 2},
              chosen ? c.colors.text : c.colors.text_dim, shown);
  }
}

void draw_layers(const Canvas& c) {
  const auto& layout = c.layout;
  for (const LayerBox& box : layout.layers) {
    const float x0 = std::max(f(layout.axis.x0), f(box.x0)), x1 = std::min(f(layout.axis.x1), f(box.x1));
    c.list.AddLine({std::floor(f(box.x0)), f(layout.layers_y0)}, {std::floor(f(box.x0)), c.bottom},
                   with_alpha(c.colors.text_dim, 0.13));
    const std::string text = x1 - x0 > c.theme.px(60) ? fmt::format("layer {}", box.layer) : std::to_string(box.layer);
    const ImVec2 size = text_size(c.theme, c.theme.sans, 11, text);
    if (size.x + 2 > x1 - x0) continue;
    draw_text(c.list, c.theme, c.theme.sans, 11, {(x0 + x1 - size.x) / 2, f(layout.layers_y0) + c.theme.px(1)},
              c.colors.text_faint, text);
  }
}

std::string box_label(const Canvas& c, const TimelineBox& box) {
  if (box.is_copy) {
    const CopyRecord& copy = c.context.trace.copies[box.record];
    return copy.expert == kNone16 ? readable(name(copy.reason)) : expert_name({copy.layer, copy.expert});
  }
  const WorkRecord& work = c.context.trace.works[box.record];
  if (work.kind == WorkKind::expert && work.expert != kNone16) return fmt::format("E{}", work.expert);
  return readable(name(work.kind));
}

bool concerns(const Canvas& c, const TimelineBox& box, ExpertId id) {
  if (box.column) return true;
  const auto is = [&](const auto& record) { return record.layer == id.layer && record.expert == id.expert; };
  return box.is_copy ? is(c.context.trace.copies[box.record]) : is(c.context.trace.works[box.record]);
}

float top_of(const TimelineLane& lane, const TimelineBox& box) {
  const float height = f(lane.y1 - lane.y0);
  return f(lane.y1) - (box.column ? std::max(2.0f, height * f(box.fill)) : height * f(box.height));
}

void draw_box(const Canvas& c, const TimelineLane& lane, const TimelineBox& box) {
  Color color =
      box.is_copy ? c.colors.of(static_cast<CopyReason>(box.kind)) : c.colors.of(static_cast<WorkKind>(box.kind));
  if (lane.kind == RowKind::cpu) color = c.colors.cpu;
  const float height = f(lane.y1 - lane.y0);
  const float top = top_of(lane, box);
  const ImVec2 a{f(box.x0), top}, b{f(box.x1), f(lane.y1)};
  bool hatched = lane.kind == RowKind::waits && !box.column;
  if (!box.column && box.is_copy && static_cast<CopyReason>(box.kind) == CopyReason::prefetch) {
    const PrefetchFate fate = c.context.index.fates.of(c.context.trace.copies[box.record].copy);
    color = c.colors.of(fate);
    hatched = fate == PrefetchFate::wasted;
  }
  if (box.column) {
    c.list.AddRectFilled(a, b, lane.kind == RowKind::waits ? with_alpha(color, 0.72) : color);
    if (box.marked > 0)
      c.list.AddRectFilled({a.x, b.y - height * f(box.marked)}, b,
                           lane.kind == RowKind::cpu ? c.colors.cpu_early : c.colors.changed);
    return;
  }
  const bool early = lane.kind == RowKind::cpu && c.context.index.inexact.early(box.record) != EarlyWork::none;
  if (early) color = c.colors.cpu_early;
  if (c.context.selection.expert && !concerns(c, box, *c.context.selection.expert))
    color = mix(color, c.colors.panel, 0.45);
  const bool wide = b.x - a.x > 3;
  const float right = wide ? b.x - 1 : b.x;
  if (hatched)
    draw_hatched(c.list, c.theme, a, {right, b.y}, color);
  else
    c.list.AddRectFilled(a, {right, b.y}, color, wide ? c.theme.px(1.5) : 0);
  if (early && wide) c.list.AddRect(a, {right, b.y}, c.colors.cpu, c.theme.px(1.5), c.theme.px(1.5));
  if (box.height < 1) c.list.AddRectFilled(a, {right, a.y + std::max(2.0f, c.theme.px(2))}, c.colors.changed);
  if (b.x - a.x < c.theme.px(22) || b.y - a.y < c.theme.px(14) || hatched) return;
  const std::string text = fitting(c.theme, c.theme.sans, 11, box_label(c, box), b.x - a.x - c.theme.px(6));
  draw_text(c.list, c.theme, c.theme.sans, 11, {a.x + c.theme.px(3), (a.y + b.y - c.theme.px(14)) / 2}, text_on(color),
            text);
}

void outline_pinned(const Canvas& c) {
  const auto& pinned = c.context.selection.pinned;
  if (!pinned) return;
  for (const TimelineLane& lane : c.layout.lanes)
    for (const TimelineBox& box : lane.boxes)
      if (!box.column && box.record == pinned->record && box.is_copy == pinned->is_copy)
        c.list.AddRect({f(box.x0) - 1, top_of(lane, box) - 1}, {f(box.x1) + 1, f(lane.y1) + 1}, c.colors.selection,
                       c.theme.px(2), c.theme.px(1.6));
}

void draw_lanes(const Canvas& c) {
  for (const TimelineLane& lane : c.layout.lanes) {
    if (lane.y0 >= c.bottom) break;
    c.list.AddRectFilled({f(c.layout.axis.x0), f(lane.y0)}, {f(c.layout.axis.x1), f(lane.y1)},
                         with_alpha(c.colors.window, 0.45));
  }
  c.list.PushClipRect({f(c.layout.axis.x0), f(c.layout.ruler_y0)}, {f(c.layout.axis.x1), c.bottom}, true);
  for (const TimelineLane& lane : c.layout.lanes)
    for (const TimelineBox& box : lane.boxes) draw_box(c, lane, box);
  outline_pinned(c);
  c.list.PopClipRect();
  for (const TimelineLane& lane : c.layout.lanes) {
    const float height = f(lane.y1 - lane.y0);
    const std::string share = format_percent(lane.busy_share);
    if (height >= c.theme.px(28)) {
      draw_text(c.list, c.theme, c.theme.strong, 12, {c.left, f(lane.y0) + (height - c.theme.px(29)) / 2},
                c.colors.text, lane.label);
      draw_text(c.list, c.theme, c.theme.sans, 11,
                {c.left, f(lane.y0) + (height - c.theme.px(29)) / 2 + c.theme.px(15)}, c.colors.text_dim, share);
    } else {
      const float y = f(lane.y0) + (height - c.theme.px(14)) / 2;
      draw_text(c.list, c.theme, c.theme.strong, 11, {c.left, y}, c.colors.text, lane.label);
      const ImVec2 size = text_size(c.theme, c.theme.sans, 11, share);
      draw_text(c.list, c.theme, c.theme.sans, 11, {f(c.layout.axis.x0) - size.x - c.theme.px(5), y}, c.colors.text_dim,
                share);
    }
  }
  draw_text(c.list, c.theme, c.theme.strong, 11, {c.left, f(c.layout.tokens_y0) + c.theme.px(2)}, c.colors.text,
            "Tokens");
  if (!c.layout.layers.empty())
    draw_text(c.list, c.theme, c.theme.sans, 11, {c.left, f(c.layout.layers_y0) + c.theme.px(1)}, c.colors.text_dim,
              "Layers");
}

// What was left out has no bar: a small sign on the upper edge of the GPU, filled where another expert ran instead.
void draw_left_out(const Canvas& c) {
  if (c.layout.lanes.empty()) return;
  const float y = f(c.layout.lanes.front().y0), r = c.theme.px(4);
  for (const LeftOutMark& mark : c.layout.left_out) {
    const float x = f(mark.x);
    const ImVec2 a{x - r, y - r}, b{x + r, y - r}, tip{x, y + r};
    c.list.AddTriangleFilled(a, b, tip, mark.substituted ? c.colors.changed : c.colors.panel);
    c.list.AddTriangle(a, b, tip, c.colors.changed, c.theme.px(1.5));
  }
}

void draw_epochs(const Canvas& c) {
  const auto& epochs = c.context.trace.epochs;
  for (std::size_t i = 0; i < epochs.size(); ++i) {
    const double x = c.layout.axis.x_of(epochs[i].at_ns);
    if (i == 0 || x < c.layout.axis.x0 || x > c.layout.axis.x1) continue;
    draw_flag(c.list, c.theme, std::floor(f(x)), f(c.layout.ruler_y0), c.bottom, epoch_text(epochs[i]),
              f(c.layout.axis.x1), false);
  }
  for (const MarkRecord& mark : c.context.trace.marks) {
    const double x = c.layout.axis.x_of(mark.at_ns);
    if (x < c.layout.axis.x0 || x > c.layout.axis.x1) continue;
    c.list.AddLine({f(x), f(c.layout.ruler_y0)}, {f(x), c.bottom}, c.colors.accent);
    draw_text(c.list, c.theme, c.theme.sans, 11, {f(x) + c.theme.px(3), f(c.layout.ruler_y0) + c.theme.px(3)},
              c.colors.accent, mark.text);
  }
}

void draw_selection(const Canvas& c) {
  const Selection& selection = c.context.selection;
  if (selection.range) {
    const float x0 =
        std::clamp(f(c.layout.axis.x_of(selection.range->begin_ns)), f(c.layout.axis.x0), f(c.layout.axis.x1));
    const float x1 =
        std::clamp(f(c.layout.axis.x_of(selection.range->end_ns)), f(c.layout.axis.x0), f(c.layout.axis.x1));
    if (x1 > x0) {
      c.list.AddRectFilled({x0, f(c.layout.ruler_y0)}, {x1, c.bottom}, with_alpha(c.colors.accent, 0.13));
      c.list.AddLine({x0, f(c.layout.ruler_y0)}, {x0, c.bottom}, c.colors.accent, c.theme.px(1.5));
      c.list.AddLine({x1, f(c.layout.ruler_y0)}, {x1, c.bottom}, c.colors.accent, c.theme.px(1.5));
      const std::string text = format_duration(width_ns(*selection.range));
      const ImVec2 size = text_size(c.theme, c.theme.strong, 11, text);
      const ImVec2 at{std::clamp((x0 + x1 - size.x) / 2, f(c.layout.axis.x0), f(c.layout.axis.x1) - size.x),
                      c.bottom - size.y - c.theme.px(3)};
      c.list.AddRectFilled({at.x - c.theme.px(4), at.y - 1}, {at.x + size.x + c.theme.px(4), at.y + size.y + 1},
                           c.colors.accent, c.theme.px(3));
      draw_text(c.list, c.theme, c.theme.strong, 11, at, text_on(c.colors.accent), text);
    }
  }
  if (selection.cursor) {
    const float x = std::floor(f(c.layout.axis.x_of(*selection.cursor)));
    if (x >= f(c.layout.axis.x0) && x <= f(c.layout.axis.x1))
      c.list.AddLine({x, f(c.layout.ruler_y0)}, {x, c.bottom}, with_alpha(c.colors.selection, 0.5));
  }
}

enum class Pattern { plain, hatched, outlined, low, triangle };

struct LegendEntry {
  const char* text;
  Color color;
  Pattern pattern;
};

// What only some policies do is explained where it happened, and comes first: the rest looks the same everywhere.
std::vector<LegendEntry> legend_of(const ViewContext& context) {
  const Palette& colors = context.colors();
  const TraceIndex& index = context.index;
  const bool prefetched = index.fates.any();
  const auto has = [&](Lane lane, std::uint8_t device) { return context.trace.lanes().contains({lane, device}); };
  const bool cpu = has(Lane::cpu, 0), gpus = has(Lane::gpu, 1);
  std::vector<LegendEntry> entries = {{"GPU compute", colors.gpu, Pattern::plain},
                                      {"demand copy", colors.demand, Pattern::plain}};
  if (cpu) entries.push_back({"CPU expert", colors.cpu, Pattern::plain});
  if (!index.inexact.early().empty()) entries.push_back({"early CPU expert", colors.cpu_early, Pattern::outlined});
  if (index.inexact.total().low_precision > 0) entries.push_back({"low precision", colors.demand, Pattern::low});
  if (index.inexact.total().left_out() > 0) entries.push_back({"left out", colors.changed, Pattern::triangle});
  if (prefetched) {
    entries.push_back({"prefetch", colors.prefetch, Pattern::plain});
    entries.push_back({"late", colors.prefetch_late, Pattern::plain});
    entries.push_back({"wasted", colors.prefetch, Pattern::hatched});
  }
  entries.push_back({"exposed wait", colors.demand, Pattern::hatched});
  if (cpu || gpus) {
    const char* whom = !gpus ? "wait for the CPU" : !cpu ? "wait for other GPUs" : "wait for CPU, other GPUs";
    entries.push_back({whom, colors.of(WorkKind::wait_activation), Pattern::hatched});
  }
  entries.push_back({"routing, policy", colors.host, Pattern::plain});
  entries.push_back({"placement", colors.placement, Pattern::plain});
  return entries;
}

void draw_legend_sign(ImDrawList& list, const Theme& theme, const LegendEntry& entry, ImVec2 a, float size) {
  const Palette& colors = theme.colors();
  const ImVec2 b{a.x + size, a.y + size}, lower{a.x, a.y + size * 0.35f};
  switch (entry.pattern) {
    case Pattern::hatched:
      draw_hatched(list, theme, a, b, entry.color);
      break;
    case Pattern::low:
      list.AddRectFilled(lower, b, entry.color);
      list.AddRectFilled(lower, {b.x, lower.y + theme.px(2)}, colors.changed);
      break;
    case Pattern::triangle:
      list.AddTriangle({a.x, a.y + 1}, {b.x, a.y + 1}, {(a.x + b.x) / 2, b.y - 1}, entry.color, theme.px(1.5));
      break;
    case Pattern::plain:
    case Pattern::outlined:
      list.AddRectFilled(a, b, entry.color, theme.px(2));
      if (entry.pattern == Pattern::outlined) list.AddRect(a, b, colors.cpu, theme.px(2), theme.px(1.5));
      break;
  }
}

// All entries, for those that had no room in the line.
void legend_tooltip(const Theme& theme, std::span<const LegendEntry> entries) {
  if (!ImGui::BeginTooltip()) return;
  const float size = theme.px(10);
  for (const LegendEntry& entry : entries) {
    const ImVec2 at = ImGui::GetCursorScreenPos();
    draw_legend_sign(*ImGui::GetWindowDrawList(), theme, entry, {at.x, at.y + (ImGui::GetTextLineHeight() - size) / 2},
                     size);
    ImGui::Dummy({size, ImGui::GetTextLineHeight()});
    ImGui::SameLine();
    ImGui::TextUnformatted(entry.text);
  }
  ImGui::EndTooltip();
}

}  // namespace

void draw_timeline(const ViewContext& context, const TimelineLayout& layout, ImDrawList& list, float left,
                   float bottom) {
  const Canvas canvas{context, layout, list, context.theme, context.colors(), left, bottom};
  draw_ruler(canvas);
  list.PushClipRect({f(layout.axis.x0), f(layout.ruler_y0)}, {f(layout.axis.x1), bottom}, true);
  draw_tokens(canvas);
  draw_layers(canvas);
  list.PopClipRect();
  draw_lanes(canvas);
  list.PushClipRect({f(layout.axis.x0), f(layout.ruler_y0)}, {f(layout.axis.x1), bottom}, true);
  draw_left_out(canvas);
  draw_epochs(canvas);
  draw_selection(canvas);
  list.PopClipRect();
}

void draw_timeline_legend(const ViewContext& context, float right) {
  const Theme& theme = context.theme;
  const auto entries = legend_of(context);
  const ImVec2 from = ImGui::GetItemRectMin(), to = ImGui::GetItemRectMax();
  const float size = theme.px(10), middle = std::floor((from.y + to.y) / 2), begin = to.x + theme.px(14);
  const float more = text_size(theme, theme.strong, theme.small_font(), "…").x;
  ImDrawList& list = *ImGui::GetWindowDrawList();
  float x = begin;
  for (const LegendEntry& entry : entries) {
    const ImVec2 text = text_size(theme, theme.sans, theme.small_font(), entry.text);
    const bool last = &entry == &entries.back();
    if (x + size + theme.px(5) + text.x + (last ? 0 : theme.px(13) + more) > right) {
      draw_text(list, theme, theme.strong, theme.small_font(), {x, middle - text.y / 2}, context.colors().text_dim,
                "…");
      break;
    }
    draw_legend_sign(list, theme, entry, {x, middle - size / 2}, size);
    x += size + theme.px(5);
    draw_text(list, theme, theme.sans, theme.small_font(), {x, middle - text.y / 2}, context.colors().text_dim,
              entry.text);
    x += text.x + theme.px(13);
  }
  if (ImGui::IsWindowHovered() && ImGui::IsMouseHoveringRect({begin, from.y}, {right, to.y}))
    legend_tooltip(theme, entries);
}

Description describe_item(const ViewContext& context, PinnedItem item) {
  if (item.is_copy) {
    if (item.record >= context.trace.copies.size()) return {};
    const CopyRecord& copy = context.trace.copies[item.record];
    return describe_copy(context.trace, copy, context.index.fates.of(copy.copy));
  }
  if (item.record >= context.trace.works.size()) return {};
  return describe_work(context.trace, context.trace.works[item.record], context.index.inexact.early(item.record));
}

}  // namespace expertscope
