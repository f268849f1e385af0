// The strip below the timeline: statistics of the selected range, and what is pinned. Also the empty state of all
// views.
#pragma once

#include "views/range_statistics.h"
#include "views/view.h"

namespace expertscope {

// With both a range and a pinned item the user chooses which is shown.
float timeline_panel_height(const ViewContext&);
void draw_timeline_panel(ViewContext&, RangeStatistics&, bool& pinned_in_front);

// "token 141" and "L3·E5" as links that choose them everywhere.
void step_link(ViewContext&, std::uint32_t step);
void expert_link(ViewContext&, ExpertId);

// What a window shows before the first step: why it is empty, and a button that changes that.
void draw_no_run(ViewContext&, const char* title, const char* what_comes);
// Submits the first demo prompt, as the button of an empty window does. False when there is none.
bool run_demo_prompt(ViewContext&);

}  // namespace expertscope
