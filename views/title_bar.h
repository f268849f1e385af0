// The line at the top: what runs, on which machine, how the numbers came about, and the numbers that matter most.
#pragma once

#include <string>

#include "views/view.h"

namespace expertscope {

struct TitleActions {
  bool show_health = false, show_help = false, toggle_theme = false, reset_layout = false;
  std::string show_window;  // chosen in the menu
};
TitleActions draw_title_bar(ViewContext&);
float title_bar_height(const Theme&);

// Of a live run what the engine says, of a session its last epoch's.
const std::string& policy_in_force(const Trace&, const LiveStatus&);
// "rtx4090-pcie4, costs of mixtral-8x7b-q4"
std::string machine_text(const RunInfo&);

}  // namespace expertscope
