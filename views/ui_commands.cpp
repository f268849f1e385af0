#include "views/ui_commands.h"

namespace expertscope {

std::span<const UiCommand> ui_commands() {
  static constexpr std::array<UiCommand, 24> kCommands = {{
      {UiAction::pause_or_resume, ImGuiKey_Space, "Pause, or resume and follow", "Run"},
      {UiAction::step_token, ImGuiKey_T, "One token, while paused", "Run"},
      {UiAction::mark, ImGuiKey_M, "Mark this moment", "Run"},
      {UiAction::focus_prompt, ImGuiMod_Ctrl | ImGuiKey_L, "Type a prompt", "Run"},
      {UiAction::zoom_in, ImGuiKey_W, "Zoom in", "Timeline", true},
      {UiAction::zoom_out, ImGuiKey_S, "Zoom out", "Timeline", true},
      {UiAction::pan_left, ImGuiKey_A, "Pan left", "Timeline", true},
      {UiAction::pan_right, ImGuiKey_D, "Pan right", "Timeline", true},
      {UiAction::fit, ImGuiKey_F, "Fit the selection, or everything", "Timeline"},
      {UiAction::follow, ImGuiKey_End, "Follow live data", "Timeline"},
      {UiAction::next_event, ImGuiKey_Period, "Next event on the lane of the pinned one", "Timeline", true},
      {UiAction::previous_event, ImGuiKey_Comma, "Previous event", "Timeline", true},
      {UiAction::range_from_selection, ImGuiKey_R, "Range from the chosen token", "Selection"},
      {UiAction::clear_selection, ImGuiKey_Escape, "Clear range, token, expert and pin", "Selection"},
      {UiAction::show_control, ImGuiMod_Ctrl | ImGuiKey_1, "Control", "Windows"},
      {UiAction::show_strips, ImGuiMod_Ctrl | ImGuiKey_2, "Strips", "Windows"},
      {UiAction::show_timeline, ImGuiMod_Ctrl | ImGuiKey_3, "Timeline", "Windows"},
      {UiAction::show_experts, ImGuiMod_Ctrl | ImGuiKey_4, "Experts", "Windows"},
      {UiAction::show_tokens, ImGuiMod_Ctrl | ImGuiKey_5, "Tokens", "Windows"},
      {UiAction::show_sessions, ImGuiMod_Ctrl | ImGuiKey_6, "Sessions", "Windows"},
      {UiAction::show_health, ImGuiMod_Ctrl | ImGuiKey_7, "Health", "Windows"},
      {UiAction::toggle_theme, ImGuiMod_Ctrl | ImGuiKey_T, "Dark or light", "Windows"},
      {UiAction::reset_layout, ImGuiMod_Ctrl | ImGuiMod_Shift | ImGuiKey_R, "Reset the layout", "Windows"},
      {UiAction::help, ImGuiMod_Shift | ImGuiKey_Slash, "This list", "Windows"},
  }};
  return kCommands;
}

std::span<const MouseGesture> mouse_gestures() {
  static constexpr std::array<MouseGesture, 9> kGestures = {{
      {"wheel", "zoom at the cursor; with Ctrl finer, with Shift sideways"},
      {"right-drag", "pan; Shift + left-drag does the same"},
      {"Ctrl + left-drag", "select a range: statistics, and every view follows"},
      {"drag a range's edge", "move it"},
      {"middle-drag", "zoom to what was dragged over"},
      {"click", "pin details, choose token and expert"},
      {"double-click", "zoom to it"},
      {"click in Strips", "take the timeline there"},
      {"double-click, right-click on a slider", "type a value, reset it"},
  }};
  return kGestures;
}

std::string key_text(ImGuiKeyChord chord) {
  std::string text;
  if (chord & ImGuiMod_Ctrl) text += "Ctrl + ";
  const auto key = static_cast<ImGuiKey>(chord & ~ImGuiMod_Mask_);
  if ((chord & ImGuiMod_Shift) && key == ImGuiKey_Slash) return text + "?";
  if (chord & ImGuiMod_Shift) text += "Shift + ";
  if (key == ImGuiKey_Period) return text + ".";
  if (key == ImGuiKey_Comma) return text + ",";
  if (key == ImGuiKey_Escape) return text + "Esc";
  return text + ImGui::GetKeyName(key);
}

}  // namespace expertscope
