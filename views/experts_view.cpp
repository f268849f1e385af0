#include "views/experts_view.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <tuple>

#include "imgui.h"
#include "implot.h"
#include <fmt/format.h>

#include "views/describe.h"
#include "views/format.h"
#include "views/timeline_panel.h"
#include "views/widgets.h"

namespace expertscope {
namespace {

constexpr int kHistoryBins = 60;

float f(double value) {
  return static_cast<float>(value);
}

// As few characters as tell it: what fits into a cell.
std::string short_number(HeatQuantity quantity, double value) {
  if (std::isnan(value)) return "";
  if (is_share(quantity)) return fmt::format("{:.0f}", value * 100);
  if (value < 999.5) return fmt::format("{:.0f}", value);
  std::string text = format_si(value, "");
  text.erase(std::remove(text.begin(), text.end(), ' '), text.end());
  return text;
}

InexactCounts inexact_counts(const ExpertCell& cell) {
  InexactCounts counts;
  counts.skipped = static_cast<std::uint32_t>(cell.skipped);
  counts.substituted = static_cast<std::uint32_t>(cell.substituted);
  counts.early = static_cast<std::uint32_t>(cell.early);
  counts.low_precision = static_cast<std::uint32_t>(cell.low_precision);
  return counts;
}

}  // namespace

TimeRange ExpertsView::range_of(const ViewContext& context) const {
  if (scope_ == Scope::timeline) return context.selection.timeline;
  if (scope_ == Scope::automatic) {
    if (context.selection.range) return *context.selection.range;
    if (!context.selection.fit_strips && !is_empty(context.selection.strips)) return context.selection.strips;
  }
  return {0, context.trace.end_ns() + 1};
}

void ExpertsView::draw_toolbar(ViewContext& context) {
  const Theme& theme = context.theme;
  ImGui::SetNextItemWidth(theme.px(126));
  if (ImGui::BeginCombo("##quantity", name(quantity_))) {
    for (int i = 0; i < kHeatQuantities; ++i) {
      const auto quantity = static_cast<HeatQuantity>(i);
      if (ImGui::Selectable(name(quantity), quantity == quantity_)) quantity_ = quantity;
      if (ImGui::IsItemHovered()) ImGui::SetTooltip("%s", help(quantity));
    }
    ImGui::EndCombo();
  }
  if (ImGui::IsItemHovered(ImGuiHoveredFlags_ForTooltip)) ImGui::SetTooltip("%s", help(quantity_));
  ImGui::SameLine();
  const char* automatic = context.selection.range        ? "Selected range"
                          : context.selection.fit_strips ? "Whole run"
                                                         : "As in Strips";
  const std::array<const char*, 3> names = {automatic, "As in Timeline", "Whole run, always"};
  ImGui::SetNextItemWidth(theme.px(136));
  if (ImGui::BeginCombo("##scope", names[static_cast<std::size_t>(scope_)])) {
    for (const Scope scope : {Scope::automatic, Scope::timeline, Scope::whole})
      if (ImGui::Selectable(names[static_cast<std::size_t>(scope)], scope == scope_)) scope_ = scope;
    ImGui::EndCombo();
  }
  if (ImGui::IsItemHovered(ImGuiHoveredFlags_ForTooltip))
    ImGui::SetTooltip("The stretch of time that is counted: %s", format_duration(width_ns(grid_range_)).c_str());
  ImGui::SameLine();
  ImGui::Checkbox("log", &logarithmic_);
  if (ImGui::IsItemHovered(ImGuiHoveredFlags_ForTooltip)) ImGui::SetTooltip("Logarithmic colour scale");
}

void ExpertsView::draw_cells(ViewContext& context, ImDrawList& list) {
  const Theme& theme = context.theme;
  const Palette& colors = context.colors();
  const HeatLayout& l = layout_;
  const bool gaps = l.cell_w >= 8 && l.cell_h >= 8;
  const float inset = gaps ? 1.0f : 0.0f;
  for (int layer = 0; layer < l.layers; ++layer) {
    for (int expert = 0; expert < l.experts; ++expert) {
      const double value = values_.at(layer, expert);
      const ImVec2 a{f(l.x0 + expert * l.cell_w), f(l.y0 + layer * l.cell_h)},
          b{a.x + f(l.cell_w) - inset, a.y + f(l.cell_h) - inset};
      const Color color = std::isnan(value) ? colors.raised : viridis(heat_place(value, values_.max, logarithmic_));
      list.AddRectFilled(a, b, color);
      if (l.cell_w >= theme.px(22) && l.cell_h >= theme.px(13)) {
        const std::string text = short_number(quantity_, value);
        const ImVec2 size = text_size(theme, theme.sans, 10, text);
        if (size.x + theme.px(2) <= b.x - a.x)
          draw_text(list, theme, theme.sans, 10, {(a.x + b.x - size.x) / 2, (a.y + b.y - size.y) / 2},
                    with_alpha(text_on(color), 0.85), text);
      }
      if (grid_.at(layer, expert).resident && l.cell_w >= theme.px(5) && l.cell_h >= theme.px(5))
        list.AddRect({a.x + 0.5f, a.y + 0.5f}, {b.x - 0.5f, b.y - 0.5f}, rgb(0xFFFFFF), 0,
                     theme.px(l.cell_w >= theme.px(12) ? 1.6 : 1));
    }
  }
  const auto outline = [&](ExpertId id, Color color, float thickness) {
    if (id.layer >= l.layers || id.expert >= l.experts) return;
    const ImVec2 a{f(l.x0 + id.expert * l.cell_w), f(l.y0 + id.layer * l.cell_h)};
    list.AddRect({a.x - 1.5f, a.y - 1.5f}, {a.x + f(l.cell_w) + 0.5f, a.y + f(l.cell_h) + 0.5f}, color, theme.px(1.5),
                 thickness);
  };
  if (context.selection.step && l.cell_h >= theme.px(10))
    for (const DemandRecord& demand : context.trace.demands_of(*context.selection.step))
      outline({demand.layer, demand.expert}, colors.of(demand.state), theme.px(2));
  if (context.selection.expert) outline(*context.selection.expert, colors.accent, theme.px(2.5));
}

void ExpertsView::draw_margins(ViewContext& context, ImDrawList& list) {
  const Theme& theme = context.theme;
  const Palette& colors = context.colors();
  const HeatLayout& l = layout_;
  const Color bar = mix(colors.panel, colors.text_dim, 0.4);
  for (int layer = 0; layer < l.layers; ++layer) {
    const double value = values_.by_layer[static_cast<std::size_t>(layer)];
    const float y0 = f(l.y0 + layer * l.cell_h), y1 = y0 + f(l.cell_h) - 1;
    const double share = values_.max_by_layer > 0 && !std::isnan(value) ? value / values_.max_by_layer : 0;
    list.AddRectFilled({f(l.right_x0), y0}, {f(l.right_x0 + share * (l.right_x1 - l.right_x0)), y1}, bar);
    if (layer % l.layer_labels_every) continue;
    const std::string text = std::to_string(layer);
    const ImVec2 size = text_size(theme, theme.sans, 11, text);
    draw_text(list, theme, theme.sans, 11, {f(l.x0) - size.x - theme.px(5), (y0 + y1 - size.y) / 2}, colors.text_dim,
              text);
  }
  for (int expert = 0; expert < l.experts; ++expert) {
    const double value = values_.by_expert[static_cast<std::size_t>(expert)];
    const float x0 = f(l.x0 + expert * l.cell_w), x1 = x0 + std::max(1.0f, f(l.cell_w) - 1);
    const double share = values_.max_by_expert > 0 && !std::isnan(value) ? value / values_.max_by_expert : 0;
    list.AddRectFilled({x0, f(l.bottom_y0)}, {x1, f(l.bottom_y0 + share * (l.bottom_y1 - l.bottom_y0))}, bar);
    if (expert % l.expert_labels_every) continue;
    const std::string text = std::to_string(expert);
    const ImVec2 size = text_size(theme, theme.sans, 11, text);
    draw_text(list, theme, theme.sans, 11, {(x0 + x1 - size.x) / 2, f(l.y0) - size.y - theme.px(2)}, colors.text_dim,
              text);
  }
}

void ExpertsView::hover(ViewContext& context) {
  const ImVec2 mouse = ImGui::GetIO().MousePos;
  const HeatLayout& l = layout_;
  if (const auto cell = l.cell_at(mouse.x, mouse.y)) {
    const ExpertCell& c = grid_.at(cell->layer, cell->expert);
    TooltipLines lines = {
        {"activations", fmt::format("{} in {} demands", format_count(c.picks), format_count(c.demands))},
        {"hits / late / misses",
         fmt::format("{} / {} / {}", format_count(c.hits), format_count(c.late), format_count(c.misses))},
        {"on the CPU", format_count(c.cpu)},
        {"copied", format_bytes(static_cast<double>(c.bytes))},
        {"resident", fmt::format("{} of the time",
                                 format_percent(static_cast<double>(c.resident_ns) /
                                                static_cast<double>(std::max<TimeNs>(1, width_ns(grid_range_)))))},
        {"at the end", c.resident ? "in a slot" : "not on the GPU"}};
    if (const InexactCounts inexact = inexact_counts(c); inexact.any())
      lines.emplace_back("inexact", inexact_text(inexact));
    tooltip(context.theme,
            fmt::format("{}: {} {}", expert_name(*cell), heat_value(quantity_, values_.at(cell->layer, cell->expert)),
                        is_share(quantity_) ? name(quantity_) : ""),
            lines);
    if (ImGui::IsMouseClicked(ImGuiMouseButton_Left)) {
      if (context.selection.expert == cell)
        context.selection.expert.reset();
      else
        context.selection.expert = cell;
    }
    return;
  }
  if (mouse.x >= l.right_x0 && mouse.x < l.right_x1 && mouse.y >= l.y0 && mouse.y < l.y1 && l.cell_h > 0) {
    const auto layer = static_cast<std::size_t>((mouse.y - l.y0) / l.cell_h);
    if (layer < values_.by_layer.size())
      tooltip(context.theme, fmt::format("Layer {}", layer),
              {{name(quantity_), heat_value(quantity_, values_.by_layer[layer])}});
  } else if (mouse.y >= l.bottom_y0 && mouse.y < l.bottom_y1 && mouse.x >= l.x0 && mouse.x < l.x1 && l.cell_w > 0) {
    const auto expert = static_cast<std::size_t>((mouse.x - l.x0) / l.cell_w);
    if (expert < values_.by_expert.size())
      tooltip(context.theme, fmt::format("Expert {} of all layers", expert),
              {{name(quantity_), heat_value(quantity_, values_.by_expert[expert])}});
  }
}

void ExpertsView::draw_map(ViewContext& context, float height) {
  const Theme& theme = context.theme;
  const ImVec2 at = ImGui::GetCursorScreenPos();
  const float width = std::max(theme.px(60), ImGui::GetContentRegionAvail().x);
  ImGui::InvisibleButton("##heatmap", {width, height});
  const HeatSizes sizes{.left_labels = theme.px(24),
                        .top_labels = theme.px(30),
                        .margin = height > theme.px(240) ? theme.px(34) : theme.px(16),
                        .gap = theme.px(5),
                        .label_height = theme.px(14),
                        .label_width = theme.px(20)};
  layout_ = heatmap_layout(values_.layers, values_.experts, at.x, at.y, at.x + width, at.y + height, sizes);
  ImDrawList& list = *ImGui::GetWindowDrawList();
  list.PushClipRect(at, {at.x + width, at.y + height}, true);
  draw_text(list, theme, theme.sans, 11, {at.x, at.y}, context.colors().text_faint, "Layer ↓   Expert →");
  const std::string total =
      fmt::format("{}{}", is_share(quantity_) ? "overall " : "total ", heat_value(quantity_, values_.total));
  const ImVec2 size = text_size(theme, theme.sans, 11, total);
  draw_text(list, theme, theme.sans, 11, {at.x + width - size.x, at.y}, context.colors().text_dim, total);
  draw_cells(context, list);
  draw_margins(context, list);
  list.PopClipRect();
  if (ImGui::IsItemHovered()) hover(context);
}

void ExpertsView::draw_scale(ViewContext& context) {
  const Theme& theme = context.theme;
  const ImVec2 at = ImGui::GetCursorScreenPos();
  const float room = ImGui::GetContentRegionAvail().x;
  const std::string low = is_share(quantity_) ? "0 %" : "0", high = heat_value(quantity_, values_.max);
  const std::string resident = "resident now";
  const float low_width = text_size(theme, theme.sans, 11, low).x,
              high_width = text_size(theme, theme.sans, 11, high).x;
  const float key_width = text_size(theme, theme.sans, 11, resident).x + theme.px(18);
  const float x0 = at.x + low_width + theme.px(6);
  const float x1 = std::max(x0 + theme.px(40), at.x + room - high_width - theme.px(8) - key_width - theme.px(12));
  const float y0 = at.y + theme.px(3), y1 = y0 + theme.px(10);
  ImDrawList& list = *ImGui::GetWindowDrawList();
  draw_viridis(list, {x0, y0}, {x1, y1});
  const float text_y = at.y + theme.px(1);
  draw_text(list, theme, theme.sans, 11, {at.x, text_y}, context.colors().text_dim, low);
  draw_text(list, theme, theme.sans, 11, {x1 + theme.px(6), text_y}, context.colors().text_dim, high);
  const float key_x = at.x + room - key_width;
  list.AddRectFilled({key_x, y0}, {key_x + theme.px(11), y1 + 1}, viridis(0.35));
  list.AddRect({key_x, y0}, {key_x + theme.px(11), y1 + 1}, rgb(0xFFFFFF), 0, theme.px(1.6));
  draw_text(list, theme, theme.sans, 11, {key_x + theme.px(17), text_y}, context.colors().text_dim, resident);
  ImGui::Dummy({room, theme.px(17)});
}

void ExpertsView::draw_history(ViewContext& context, float height) {
  const Theme& theme = context.theme;
  const Palette& colors = context.colors();
  const ExpertId id = *context.selection.expert;
  const TimeRange range = context.selection.strips;
  if (history_.empty() || !(history_of_ == id) || history_revision_ != revision_ || !same(history_range_, range)) {
    history_ = context.index.experts.history(context.trace, id, range, kHistoryBins);
    history_of_ = id;
    history_revision_ = revision_;
    history_range_ = range;
  }
  ImGui::Separator();
  text_strong(theme, "Expert " + expert_name(id));
  if (id.layer < grid_.layers && id.expert < grid_.experts) {
    const ExpertCell& cell = grid_.at(id.layer, id.expert);
    ImGui::SameLine();
    ImGui::PushFont(nullptr, theme.small_font());
    const std::tuple<const char*, std::uint64_t, Color> counts[] = {{"hits", cell.hits, colors.hit},
                                                                    {"late", cell.late, colors.prefetch_late},
                                                                    {"misses", cell.misses, colors.miss}};
    for (const auto& [what, count, color] : counts) {
      swatch(theme, color);
      ImGui::SameLine(0, theme.px(4));
      text_dim(theme, fmt::format("{} {}", format_count(count), what));
      ImGui::SameLine(0, theme.px(9));
    }
    std::string rest = inexact_text(inexact_counts(cell));
    if (!rest.empty()) {
      swatch(theme, colors.changed);
      ImGui::SameLine(0, theme.px(4));
      rest += "  ";
    }
    rest += cell.resident ? "in a slot" : "not resident";
    text_dim(theme,
             fitting(theme, theme.sans, theme.small_font(), rest, ImGui::GetContentRegionAvail().x - theme.px(28)));
    ImGui::PopFont();
  }
  ImGui::SameLine(ImGui::GetCursorPosX() + ImGui::GetContentRegionAvail().x - theme.px(22));
  if (icon_button(theme, "##close_history", Icon::close, "", theme.px(22))) {
    context.selection.expert.reset();
    return;
  }
  constexpr ImPlotAxisFlags kQuiet =
      ImPlotAxisFlags_NoMenus | ImPlotAxisFlags_NoHighlight | ImPlotAxisFlags_NoSideSwitch;
  ImPlot::PushStyleVar(ImPlotStyleVar_LabelPadding, ImVec2{theme.px(3), theme.px(2)});
  if (ImPlot::BeginPlot("##history",
                        {-1, std::max(theme.px(50), height - ImGui::GetFrameHeightWithSpacing() - theme.px(10))},
                        ImPlotFlags_NoMenus | ImPlotFlags_NoLegend | ImPlotFlags_NoBoxSelect | ImPlotFlags_NoMouseText |
                            ImPlotFlags_NoInputs)) {
    ImGui::PushFont(nullptr, 11);
    double most = 1;
    std::vector<double> x, hits, late, misses, resident;
    for (const ExpertHistoryBin& bin : history_) {
      x.push_back(static_cast<double>(bin.range.begin_ns + width_ns(bin.range) / 2) * 1e-9);
      misses.push_back(static_cast<double>(bin.misses));
      late.push_back(misses.back() + static_cast<double>(bin.late));
      hits.push_back(late.back() + static_cast<double>(bin.hits));
      most = std::max(most, hits.back());
    }
    const double width = history_.empty() ? 1 : static_cast<double>(width_ns(history_[0].range)) * 1e-9;
    ImPlot::SetupAxes(nullptr, nullptr, kQuiet, kQuiet | ImPlotAxisFlags_LockMin);
    ImPlot::SetupAxisFormat(ImAxis_X1, [](double seconds, char* buffer, int size, void*) {
      const std::string text = format_significant(seconds) + " s";
      return snprintf(buffer, static_cast<std::size_t>(size), "%s", text.c_str());
    });
    ImPlot::SetupAxesLimits(static_cast<double>(range.begin_ns) * 1e-9, static_cast<double>(range.end_ns) * 1e-9, 0,
                            most * 1.15, ImPlotCond_Always);
    const double ticks[] = {0, std::ceil(most)};
    ImPlot::SetupAxisTicks(ImAxis_Y1, ticks, 2);
    ImPlot::SetupFinish();
    for (const ExpertHistoryBin& bin : history_) {
      const ImVec2 a = ImPlot::PlotToPixels(static_cast<double>(bin.range.begin_ns) * 1e-9, 0.0),
                   b = ImPlot::PlotToPixels(static_cast<double>(bin.range.end_ns) * 1e-9, 0.0);
      ImPlot::GetPlotDrawList()->AddRectFilled({a.x, a.y - theme.px(3)}, b,
                                               with_alpha(colors.text, bin.resident_share * 0.9));
    }
    const auto bars = [&](const char* label, const std::vector<double>& values, Color color) {
      ImPlotSpec spec;
      spec.FillColor = ImGui::ColorConvertU32ToFloat4(color);
      spec.LineColor = ImVec4(0, 0, 0, 0);
      ImPlot::PlotBars(label, x.data(), values.data(), static_cast<int>(x.size()), width * 0.9, spec);
    };
    bars("hits", hits, colors.hit);
    bars("late", late, colors.prefetch_late);
    bars("misses", misses, colors.miss);
    ImGui::PopFont();
    ImPlot::EndPlot();
  }
  ImPlot::PopStyleVar();
}

void ExpertsView::draw(ViewContext& context) {
  if (context.empty()) {
    draw_no_run(context, "No expert was asked for yet",
                "Every layer's experts appear here as a heatmap, with those that are in GPU memory outlined.");
    return;
  }
  draw_toolbar(context);
  const TimeRange range = range_of(context);
  const bool moved = range.begin_ns != grid_range_.begin_ns ||
                     (range.end_ns != grid_range_.end_ns && context.selection.range.has_value());
  const bool recompute = trace_ != &context.trace || moved ||
                         (context.refresh && (revision_ != context.trace.revision() || !same(range, grid_range_)));
  if (recompute) {
    grid_ = context.index.experts.totals(context.trace, range);
    grid_range_ = range;
    trace_ = &context.trace;
    revision_ = context.trace.revision();
  }
  if (recompute || values_quantity_ != quantity_) {
    values_ = heat_values(grid_, quantity_, width_ns(range));
    values_quantity_ = quantity_;
  }
  const Theme& theme = context.theme;
  const float room = ImGui::GetContentRegionAvail().y;
  const float history = context.selection.expert ? std::clamp(room * 0.34f, theme.px(88), theme.px(220)) : 0;
  draw_map(context, std::max(theme.px(80), room - history - theme.px(17) - ImGui::GetStyle().ItemSpacing.y * 2));
  draw_scale(context);
  if (context.selection.expert) draw_history(context, history);
}

}  // namespace expertscope
