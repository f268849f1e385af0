// The timeline window: lanes of the machine over time, with a panel for what is pinned and for the selected range.
#pragma once

#include <optional>
#include <string>

#include "views/range_statistics.h"
#include "views/timeline_layout.h"
#include "views/view.h"

struct ImDrawList;

namespace expertscope {

class TimelineView {
 public:
  void draw(ViewContext&);
  // What the keys of the command table do.
  void zoom(ViewContext&, double factor);
  void pan(ViewContext&, double share_of_width);
  void fit_selection(ViewContext&);
  void follow(ViewContext&);
  void step_to_neighbour(ViewContext&, int direction);  // next or previous event on the pinned one's lane

 private:
  void choose_range(ViewContext&);
  void draw_toolbar(ViewContext&);
  void draw_canvas(ViewContext&, float height);
  void handle_mouse(ViewContext&, const TimeAxis&);
  void hover(ViewContext&, const TimelineLayout&);

  RangeStatistics statistics_;
  TimelineLayout layout_;
  std::uint64_t layout_revision_ = 0;
  const Trace* layout_trace_ = nullptr;
  TimeNs known_end_ns_ = 0;
  std::optional<TimeNs> drag_from_;  // a range is being dragged
  enum class Edge { none, begin, end } edge_ = Edge::none;
  bool panning_ = false, zooming_ = false, pinned_in_front_ = true;
  bool ready_ = false;  // a first range was chosen
  const Trace* ready_for_ = nullptr;
};

}  // namespace expertscope
