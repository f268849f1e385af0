#include "views/health_view.h"

#include "imgui.h"
#include <fmt/format.h>

#include "profiler/health.h"
#include "views/describe.h"
#include "views/format.h"
#include "views/widgets.h"

namespace expertscope {

Color severity_color(const Palette& colors, Severity severity) {
  switch (severity) {
    case Severity::info:
      return colors.ok;
    case Severity::warning:
      return colors.warning;
    case Severity::loss:
      return colors.loss;
  }
  return colors.text;
}

void HealthView::draw(ViewContext& context, const std::vector<HealthNote>& notes, const std::string& status_of_window) {
  const Theme& theme = context.theme;
  bool only_info = true;
  for (const HealthNote& note : notes) only_info = only_info && note.severity == Severity::info;
  if (context.trace.started) {
    swatch(theme, severity_color(context.colors(), context.numbers.worst_health));
    ImGui::SameLine();
    text_strong(theme, only_info ? "Nothing was lost and nothing fell back"
                                 : fmt::format("{} {} to know about", context.numbers.health_notes,
                                               context.numbers.health_notes == 1 ? "thing" : "things"));
  } else
    text_dim(theme, "Nothing is recorded yet.");
  if (!notes.empty() &&
      ImGui::BeginTable("##health", 3, ImGuiTableFlags_SizingFixedFit | ImGuiTableFlags_RowBg | ImGuiTableFlags_ScrollY,
                        {0, std::max(theme.px(60), ImGui::GetContentRegionAvail().y - theme.px(24))})) {
    ImGui::TableSetupScrollFreeze(0, 1);
    ImGui::TableSetupColumn("kind");
    ImGui::TableSetupColumn("count");
    ImGui::TableSetupColumn("what happened", ImGuiTableColumnFlags_WidthStretch);
    ImGui::TableHeadersRow();
    for (const HealthNote& note : notes) {
      ImGui::TableNextRow();
      ImGui::TableNextColumn();
      badge(theme, name(note.severity), severity_color(context.colors(), note.severity));
      ImGui::TableNextColumn();
      text_mono(theme, format_count(note.count));
      ImGui::TableNextColumn();
      ImGui::PushTextWrapPos(0);
      ImGui::TextUnformatted(note.text.c_str());
      ImGui::PopTextWrapPos();
      text_wrapped_dim(theme, note.code);
    }
    ImGui::EndTable();
  }
  text_wrapped_dim(theme, status_of_window);
}

}  // namespace expertscope
