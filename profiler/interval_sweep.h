// Walks through a stretch of time and says, for each piece of it, everything that was going on: what attribution,
// overlap and link use are counted from, so that they agree with each other.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "profiler/trace.h"

namespace expertscope {

// Bits of what goes on at a moment. The first ones are in the order of attribution.
enum class Activity : std::uint16_t {
  gpu_kernel = 1 << 0,
  cpu_expert = 1 << 1,
  demand_wait = 1 << 2,
  prefetch_wait = 1 << 3,
  routing_sync = 1 << 4,
  policy = 1 << 5,
  sampling = 1 << 6,
  profiler = 1 << 7,
  expert_copy = 1 << 8,  // of expert weights, host to device
  demand_copy = 1 << 9,  // of them, for a demand
};
constexpr bool has(std::uint16_t activities, Activity a) {
  return (activities & static_cast<std::uint16_t>(a)) != 0;
}

std::uint16_t activities_of(Lane, WorkKind);
std::uint16_t activities_of(Lane, CopyReason);

class IntervalSweep {
 public:
  explicit IntervalSweep(const Trace& trace) {
    for (const auto& [key, index] : trace.lanes()) {
      LaneCursor cursor{&index, 0, {}};
      for (int k = 0; k < kWorkKinds; ++k) cursor.activities[0][k] = activities_of(key.lane, static_cast<WorkKind>(k));
      for (int r = 0; r < kCopyReasons; ++r)
        cursor.activities[1][r] = activities_of(key.lane, static_cast<CopyReason>(r));
      lanes_.push_back(cursor);
    }
  }

  // visit(length_ns, activities) for consecutive pieces that fill [begin_ns, end_ns).
  template <typename Visit>
  void over(TimeNs begin_ns, TimeNs end_ns, Visit&& visit) {
    for (LaneCursor& lane : lanes_) lane.next = lane.index->first_ending_after(begin_ns);
    for (TimeNs now = begin_ns; now < end_ns;) {
      TimeNs until = end_ns;
      std::uint16_t activities = 0;
      for (LaneCursor& lane : lanes_) {
        const auto items = lane.index->items();
        while (lane.next < items.size() && items[lane.next].end_ns <= now) ++lane.next;
        if (lane.next == items.size()) continue;
        const LaneItem& item = items[lane.next];
        if (item.start_ns <= now) activities |= lane.activities[item.is_copy ? 1 : 0][item.kind];
        until = std::min(until, item.start_ns <= now ? item.end_ns : item.start_ns);
      }
      visit(until - now, activities);
      now = until;
    }
  }

 private:
  struct LaneCursor {
    const LaneIndex* index;
    std::size_t next;
    std::array<std::array<std::uint16_t, kWorkKinds>, 2> activities;  // of works, of copies
  };
  static_assert(kCopyReasons <= kWorkKinds);
  std::vector<LaneCursor> lanes_;
};

}  // namespace expertscope
