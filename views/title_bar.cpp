#include "views/title_bar.h"

#include "imgui.h"
#include "imgui_internal.h"
#include <fmt/format.h>

#include "views/format.h"
#include "views/health_view.h"
#include "views/widgets.h"

namespace expertscope {
namespace {

// A chip of the right side: a dim name and a strong value.
struct Chip {
  std::string name, value;
  Color color = 0;  // of a bar before it; 0 = none
};

float chip_width(const Theme& theme, const Chip& chip) {
  return text_size(theme, theme.sans, 13, chip.name).x + theme.px(5) +
         text_size(theme, theme.strong, 13, chip.value).x + (chip.color ? theme.px(9) : 0) + theme.px(18);
}

void draw_chip(ImDrawList& list, const Theme& theme, const Chip& chip, float x, float middle) {
  const Palette& colors = theme.colors();
  const float y = middle - theme.px(8);
  if (chip.color) {
    list.AddRectFilled({x, middle - theme.px(7)}, {x + theme.px(3), middle + theme.px(7)}, chip.color, theme.px(1.5));
    x += theme.px(9);
  }
  draw_text(list, theme, theme.sans, 13, {x, y}, colors.text_dim, chip.name);
  x += text_size(theme, theme.sans, 13, chip.name).x + (chip.name.empty() ? 0 : theme.px(5));
  draw_text(list, theme, theme.strong, 13, {x, y}, colors.text, chip.value);
}

std::string session_name(const std::string& path) {
  std::string name = path.substr(path.find_last_of('/') + 1);
  if (const std::size_t dot = name.rfind('.'); dot != std::string::npos && dot > 0) name.resize(dot);
  return name;
}

std::vector<Chip> chips_of(const ViewContext& context) {
  const Palette& colors = context.colors();
  std::vector<Chip> chips;
  if (!context.trace.started) return chips;
  const std::string& policy = policy_in_force(context.trace, context.status);
  const double ratio = context.status.live            ? context.status.cache_ratio
                       : context.trace.epochs.empty() ? context.trace.info.cache_ratio
                                                      : context.trace.epochs.back().cache_ratio;
  chips.push_back({"policy", fmt::format("{}, cache {}", policy, format_ratio(ratio))});
  if (context.numbers.inexact) chips.push_back({"", "inexact", colors.changed});
  if (context.empty()) return chips;
  chips.push_back({"", format_tokens_per_s(context.numbers.recent.tokens_per_s()), colors.accent});
  chips.push_back({"hit", format_percent(context.numbers.recent.hit_rate()), colors.hit});
  const Bottleneck held = bottleneck(context.numbers.holds_back_parts);
  if (!held.name.empty())
    chips.push_back({"bound by", fmt::format("{} {}", held.name, format_percent(held.share)),
                     held.name == "link"          ? colors.demand
                     : held.name == "GPU"         ? colors.gpu
                     : held.name == "CPU experts" ? colors.cpu
                                                  : colors.host});
  return chips;
}

void draw_menu(ViewContext& context, TitleActions& actions) {
  const Theme& theme = context.theme;
  ImGui::PushStyleColor(ImGuiCol_Button, with_alpha(context.colors().raised, 0));
  if (icon_button(theme, "##menu", Icon::menu, "", theme.px(30))) ImGui::OpenPopup("##main_menu");
  ImGui::PopStyleColor();
  if (!ImGui::BeginPopup("##main_menu")) return;
  text_dim(theme, "Windows");
  for (const char* window : {"Control", "Strips", "Timeline", "Experts", "Tokens", "Sessions", "Health"})
    if (ImGui::MenuItem(window)) actions.show_window = window;
  ImGui::Separator();
  actions.toggle_theme = ImGui::MenuItem(theme.dark ? "Light theme" : "Dark theme", "Ctrl + T");
  actions.reset_layout = ImGui::MenuItem("Reset layout", "Ctrl + Shift + R");
  actions.show_help = ImGui::MenuItem("Keys and gestures", "?");
  ImGui::EndPopup();
}

}  // namespace

const std::string& policy_in_force(const Trace& trace, const LiveStatus& status) {
  if (status.live) return status.policy_spec;
  return trace.epochs.empty() ? trace.info.policy_spec : trace.epochs.back().policy_spec;
}

std::string machine_text(const RunInfo& info) {
  std::string text = info.machine_kind == "emulated" ? "emulated " + info.profile_name
                     : info.profile_name.empty()     ? info.machine_kind
                                                     : info.profile_name;
  if (info.gpus > 1) text += fmt::format(" × {} GPUs", info.gpus);
  if (!info.cost_shape.empty() && info.cost_shape != "own")
    text += fmt::format(", costs of {} layers", info.cost_shape);
  return text;
}

float title_bar_height(const Theme& theme) {
  return theme.px(36);
}

TitleActions draw_title_bar(ViewContext& context) {
  TitleActions actions;
  const Theme& theme = context.theme;
  const Palette& colors = context.colors();
  ImGui::PushStyleColor(ImGuiCol_WindowBg, ImGui::ColorConvertU32ToFloat4(colors.window));
  ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, ImVec2{theme.px(6), theme.px(5)});
  ImGui::PushStyleVar(ImGuiStyleVar_WindowBorderSize, 0);
  const bool open = ImGui::BeginViewportSideBar(
      "##title", ImGui::GetMainViewport(), ImGuiDir_Up, title_bar_height(theme),
      ImGuiWindowFlags_NoScrollbar | ImGuiWindowFlags_NoSavedSettings | ImGuiWindowFlags_NoTitleBar);
  ImGui::PopStyleVar(2);
  ImGui::PopStyleColor();
  if (open) {
    draw_menu(context, actions);
    ImDrawList& list = *ImGui::GetWindowDrawList();
    const ImVec2 a = ImGui::GetWindowPos();
    const float middle = a.y + ImGui::GetWindowHeight() / 2, right = a.x + ImGui::GetWindowWidth();

    // From the right: help, recording, chips. What remains is for the names on the left.
    float x = right - theme.px(38);
    ImGui::SetCursorScreenPos({x, a.y + theme.px(5)});
    ImGui::PushStyleColor(ImGuiCol_Button, with_alpha(colors.raised, 0));
    if (ImGui::Button("?", {theme.px(30), 0})) actions.show_help = true;
    if (ImGui::IsItemHovered(ImGuiHoveredFlags_ForTooltip)) ImGui::SetTooltip("Keys and gestures");
    const std::string state = context.status.live ? (context.status.ended    ? "ended "
                                                     : context.status.paused ? "paused "
                                                                             : "recording ") +
                                                        session_name(context.status.session_path)
                              : context.trace.started ? session_name(context.status.session_path)
                                                      : "";
    const std::string shown_state = fitting(theme, theme.sans, 13, state, theme.px(200));
    const float state_width = theme.px(26) + text_size(theme, theme.sans, 13, shown_state).x;
    x -= state_width;
    ImGui::SetCursorScreenPos({x, a.y + theme.px(5)});
    if (ImGui::Button("##health_dot", {state_width, 0})) actions.show_health = true;
    if (ImGui::IsItemHovered(ImGuiHoveredFlags_ForTooltip))
      ImGui::SetTooltip("%s", context.numbers.health_notes == 0
                                  ? "Nothing was lost, nothing fell back"
                                  : fmt::format("{} in Health", context.numbers.health_notes).c_str());
    ImGui::PopStyleColor();
    if (context.trace.started) {
      list.AddCircleFilled({x + theme.px(11), middle}, theme.px(4.5),
                           severity_color(colors, context.numbers.worst_health));
      draw_text(list, theme, theme.sans, 13, {x + theme.px(20), middle - theme.px(8)}, colors.text_dim, shown_state);
    }
    const auto chips = chips_of(context);
    const float names_room = theme.px(330);
    for (auto chip = chips.rbegin(); chip != chips.rend(); ++chip) {
      const float width = chip_width(theme, *chip);
      if (x - width < a.x + names_room) break;
      x -= width;
      draw_chip(list, theme, *chip, x, middle);
    }

    float left = a.x + theme.px(42);
    const auto put = [&](ImFont* font, float size, Color color, std::string_view text, float room) {
      const std::string shown = fitting(theme, font, size, text, room);
      draw_text(list, theme, font, size, {left, middle - size * theme.scale * 0.62f}, color, shown);
      left += text_size(theme, font, size, shown).x;
    };
    put(theme.strong, 15, colors.text, "ExpertScope", x - left);
    if (context.trace.started) {
      const RunInfo& info = context.trace.info;
      const float badge_width = text_size(theme, theme.strong, 11, name(info.label)).x + theme.px(28);
      const float label_room = x - left - badge_width - theme.px(20);
      left += theme.px(12);
      put(theme.sans, 13, colors.text, info.model_name, label_room * 0.5f);
      left += theme.px(10);
      put(theme.sans, 13, colors.text_dim, machine_text(info), x - left - badge_width - theme.px(16));
      left += theme.px(10);
      ImGui::SetCursorScreenPos({left, middle - ImGui::GetTextLineHeight() / 2});
      label_badge(theme, info.label);
    }
    list.AddLine({a.x, a.y + ImGui::GetWindowHeight() - 1}, {right, a.y + ImGui::GetWindowHeight() - 1}, colors.border);
  }
  ImGui::End();
  return actions;
}

}  // namespace expertscope
