// The strips window: tokens/s, hit rate, link and stalls over the session, with every change marked. It is the
// overview: a click takes the timeline there, a drag selects a range.
#pragma once

#include <array>
#include <optional>

#include "views/strip_layout.h"
#include "views/view.h"

namespace expertscope {

class StripsView {
 public:
  void draw(ViewContext&);

 private:
  void handle_mouse(ViewContext&, const TimeAxis&);

  std::array<StripLayout, kStrips.size()> strips_;
  TimeAxis axis_;
  double top_ = 0, bottom_ = 0;
  const Trace* trace_ = nullptr;
  std::uint64_t revision_ = 0;
  std::optional<TimeNs> drag_from_;
  bool panning_ = false, moving_window_ = false;
};

}  // namespace expertscope
