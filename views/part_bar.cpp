#include "views/part_bar.h"

#include <numeric>
#include <vector>

#include "imgui.h"

#include "views/describe.h"
#include "views/format.h"
#include "views/widgets.h"

namespace expertscope {
namespace {

double total_of(const std::array<TimeNs, kTimeParts>& parts) {
  return static_cast<double>(std::accumulate(parts.begin(), parts.end(), TimeNs{0}));
}

void right_aligned(const Theme& theme, std::string_view text, Color color) {
  ImGui::PushFont(theme.mono, theme.small_font());
  const float width = ImGui::CalcTextSize(begin_of(text), end_of(text)).x;
  ImGui::SetCursorPosX(ImGui::GetCursorPosX() + ImGui::GetContentRegionAvail().x - width);
  ImGui::PushStyleColor(ImGuiCol_Text, color);
  ImGui::TextUnformatted(begin_of(text), end_of(text));
  ImGui::PopStyleColor();
  ImGui::PopFont();
}

}  // namespace

PartStyle part_style(const Palette& colors, TimePart part) {
  switch (part) {
    case TimePart::gpu_compute:
      return {colors.gpu};
    case TimePart::cpu_experts:
      return {colors.cpu};
    case TimePart::demand_wait:
      return {colors.demand, true};
    case TimePart::prefetch_wait:
      return {colors.prefetch_late, true};
    case TimePart::routing_sync:
      return {colors.host};
    case TimePart::policy:
      return {mix(colors.host, colors.text, 0.4)};
    case TimePart::sampling:
      return {mix(colors.host, colors.panel, 0.4)};
    case TimePart::profiler:
      return {colors.promotion};
    case TimePart::remainder:
      return {colors.border};
  }
  return {};
}

void part_bar(const Theme& theme, const std::array<TimeNs, kTimeParts>& parts, float width, float height) {
  const double total = total_of(parts);
  std::vector<BarPart> bar;
  for (int i = 0; i < kTimeParts && total > 0; ++i) {
    const PartStyle style = part_style(theme.colors(), static_cast<TimePart>(i));
    bar.push_back({static_cast<double>(parts[static_cast<std::size_t>(i)]) / total, style.color, style.hatched});
  }
  stacked_bar(theme, bar, width, height);
  if (!ImGui::IsItemHovered() || total <= 0) return;
  const double place = (ImGui::GetIO().MousePos.x - ImGui::GetItemRectMin().x) / width;
  double before = 0;
  for (int i = 0; i < kTimeParts; ++i) {
    const double share = bar[static_cast<std::size_t>(i)].share;
    if (place >= before && place < before + share)
      tooltip(theme, part_name(static_cast<TimePart>(i)),
              {{"time", format_duration(parts[static_cast<std::size_t>(i)])}, {"share", format_percent(share)}});
    before += share;
  }
}

void part_rows(const Theme& theme, const std::array<TimeNs, kTimeParts>& parts, double tokens, bool only_some) {
  const double total = total_of(parts);
  ImGui::PushStyleVar(ImGuiStyleVar_CellPadding, ImVec2{theme.px(3), 0});
  if (ImGui::BeginTable("##parts", 3)) {
    ImGui::TableSetupColumn("part", ImGuiTableColumnFlags_WidthStretch);
    ImGui::TableSetupColumn("time", ImGuiTableColumnFlags_WidthFixed, theme.px(66));
    ImGui::TableSetupColumn("share", ImGuiTableColumnFlags_WidthFixed, theme.px(54));
    for (int i = 0; i < kTimeParts; ++i) {
      const auto part = static_cast<TimePart>(i);
      const TimeNs ns = parts[static_cast<std::size_t>(i)];
      if (only_some && ns == 0) continue;
      const PartStyle style = part_style(theme.colors(), part);
      const Color color = ns > 0 ? theme.colors().text : theme.colors().text_faint;
      ImGui::TableNextRow();
      ImGui::TableNextColumn();
      ImGui::PushFont(nullptr, theme.small_font());
      swatch(theme, ns > 0 ? style.color : mix(style.color, theme.colors().panel, 0.6), style.hatched);
      ImGui::SameLine(0, theme.px(6));
      ImGui::PushStyleColor(ImGuiCol_Text, color);
      const std::string name = part_name(part);
      ImGui::TextUnformatted(name.c_str());
      ImGui::PopStyleColor();
      ImGui::PopFont();
      ImGui::TableNextColumn();
      right_aligned(
          theme,
          ns > 0 ? format_duration(static_cast<TimeNs>(static_cast<double>(ns) / (tokens > 0 ? tokens : 1))) : "-",
          color);
      ImGui::TableNextColumn();
      right_aligned(theme, ns > 0 ? format_percent(static_cast<double>(ns) / total) : "-", color);
    }
    ImGui::EndTable();
  }
  ImGui::PopStyleVar();
}

}  // namespace expertscope
