// Colours, fonts and sizes of the window, dark or light. Window thread.
#pragma once

#include "imgui.h"

#include "views/palette.h"

namespace expertscope {

struct Theme {
  bool dark = true;
  ImFont* sans = nullptr;
  ImFont* strong = nullptr;  // the same, heavier
  ImFont* mono = nullptr;
  float scale = 1;  // of the monitor

  const Palette& colors() const { return dark ? dark_palette() : light_palette(); }
  float px(double at_1x) const { return static_cast<float>(at_1x) * scale; }
  float small_font() const { return 12.0f; }  // before scaling, as PushFont wants it

  // Adds the fonts that are compiled into the program, or Dear ImGui's own in their place. Once, before the first
  // frame.
  void load_fonts(float monitor_scale);
  // Sets Dear ImGui's and ImPlot's style; again after `dark` changed.
  void apply() const;
};

}  // namespace expertscope
