// Draws a computed timeline layout.
#pragma once

#include "views/describe.h"
#include "views/timeline_layout.h"
#include "views/view.h"

namespace expertscope {

void draw_timeline(const ViewContext&, const TimelineLayout&, ImDrawList&, float left, float bottom);
// Colours and their meanings in one line, beside the last item: as many as fit before `right` (a pixel).
void draw_timeline_legend(const ViewContext&, float right);
Description describe_item(const ViewContext&, PinnedItem);

}  // namespace expertscope
