// Small pieces that several views draw with. Window thread, inside a frame.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "imgui.h"

#include "views/theme.h"

namespace expertscope {

inline const char* begin_of(std::string_view text) {
  return text.data();
}
inline const char* end_of(std::string_view text) {
  return text.data() + text.size();
}

// Text straight into a draw list, in a font of the theme; size before scaling.
void draw_text(ImDrawList&, const Theme&, ImFont*, float size, ImVec2 at, Color, std::string_view);
ImVec2 text_size(const Theme&, ImFont*, float size, std::string_view);
// The longest beginning of the text that fits, with "…" when something is missing.
std::string fitting(const Theme&, ImFont*, float size, std::string_view, float width);

// Diagonal stripes on a faint ground: exposed waits and wasted work.
void draw_hatched(ImDrawList&, const Theme&, ImVec2 a, ImVec2 b, Color);
// A flag on a pole at x, naming a change. Returns the flag's rectangle's right end.
float draw_flag(ImDrawList&, const Theme&, float x, float top, float bottom, std::string_view text, float max_right,
                bool dashed);

// The colour scale of amounts, from nothing to most.
void draw_viridis(ImDrawList&, ImVec2 a, ImVec2 b);

void text_dim(const Theme&, std::string_view);
void text_strong(const Theme&, std::string_view);
void text_mono(const Theme&, std::string_view);
void text_wrapped_dim(const Theme&, std::string_view);
// A small heading with room above it.
void heading(const Theme&, std::string_view);
void badge(const Theme&, std::string_view, Color ground);
// MEASURED, ESTIMATED or SIMULATED; the tooltip says what it means.
void label_badge(const Theme&, Label);

enum class Icon { play, pause, step, flag, reset, menu, question, close, copy };
bool icon_button(const Theme&, const char* id, Icon, std::string_view text, float width = 0, bool emphasised = false);

// One horizontal bar of shares with thin gaps; the caller writes the numbers.
struct BarPart {
  double share = 0;
  Color color = 0;
  bool hatched = false;
};
void stacked_bar(const Theme&, std::span<const BarPart>, float width, float height);
void draw_bar(ImDrawList&, const Theme&, std::span<const BarPart>, ImVec2 a, ImVec2 b);
void swatch(const Theme&, Color, bool hatched = false);

// At most eight lines of name and value; the first is the title.
using TooltipLines = std::vector<std::pair<std::string, std::string>>;
void tooltip(const Theme&, std::string_view title, const TooltipLines&);
// The same rows inside a window.
void name_value_rows(const Theme&, const char* id, const TooltipLines&);

// A slider over the whole width with `shown` as its text; double-click types the value, right-click resets it.
// True once when the user has let go of a new value.
struct SliderState {
  double value = 0;  // while dragging: where the mouse is
  bool dragging = false, typing = false;
};
bool value_slider(const Theme&, const char* id, SliderState&, double min, double max, double current, double initial,
                  const char* shown, bool logarithmic = false);

// Centred text with an optional button under it, for a window that has nothing to show. True when the button was
// pressed.
bool empty_state(const Theme&, std::string_view title, std::string_view what_to_do, const char* button);

}  // namespace expertscope
