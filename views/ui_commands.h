// Everything that can be done by a key, in one table: the help window lists it, the key handler reads it.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "imgui.h"

namespace expertscope {

enum class UiAction : std::uint8_t {
  pause_or_resume,
  step_token,
  mark,
  focus_prompt,
  zoom_in,
  zoom_out,
  pan_left,
  pan_right,
  fit,
  follow,
  next_event,
  previous_event,
  range_from_selection,
  clear_selection,
  show_control,
  show_strips,
  show_timeline,
  show_experts,
  show_tokens,
  show_sessions,
  show_health,
  toggle_theme,
  reset_layout,
  help,
};

struct UiCommand {
  UiAction action;
  ImGuiKeyChord key;
  const char* name;
  const char* group;
  bool repeats = false;  // while the key is held
};
std::span<const UiCommand> ui_commands();

struct MouseGesture {
  const char* gesture;
  const char* name;
};
std::span<const MouseGesture> mouse_gestures();

std::string key_text(ImGuiKeyChord);

}  // namespace expertscope
