// What is chosen and looked at, shared by all views: a choice made in one filters and highlights in the others.
#pragma once

#include <cstdint>
#include <optional>

#include "engine/ids.h"
#include "views/time_axis.h"

namespace expertscope {

// One interval of the timeline that was clicked.
struct PinnedItem {
  std::uint32_t record = 0;  // index into Trace::works, or Trace::copies when `is_copy`
  bool is_copy = false;
  bool operator==(const PinnedItem&) const = default;
};

struct Selection {
  std::optional<TimeRange> range;     // dragged in the timeline or the strips
  std::optional<std::uint32_t> step;  // the chosen token's step
  std::optional<ExpertId> expert;
  std::optional<PinnedItem> pinned;
  std::optional<TimeNs> cursor;       // under the mouse in some view, as of the last frame
  std::optional<TimeNs> next_cursor;  // written while this frame is drawn

  TimeRange timeline{0, 0};  // what the timeline shows
  TimeRange strips{0, 0};    // what the strips show
  bool follow = true;        // the timeline moves with live data; ends when the user pans
  bool fit_strips = true;    // the strips show the whole session as it grows

  // Brings a stretch of time into the middle of the timeline with some room around it.
  void look_at(TimeRange wanted, TimeRange limits) {
    const TimeNs room = width_ns(wanted) / 2 + kNarrowestView_ns;
    timeline = panned({wanted.begin_ns - room, wanted.end_ns + room}, 0, limits);
    follow = false;
  }
  void clear() {
    range.reset();
    step.reset();
    expert.reset();
    pinned.reset();
  }
};

}  // namespace expertscope
