// One lane of the timeline: its intervals in time order, and a forest of sums over them, so that a zoomed-out lane is drawn
// in O(pixels * log n) and shows how busy each pixel was and with what. Appending is O(1) amortised.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/ids.h"

namespace expertscope {

// What an interval is drawn as. Works and copies share one colour space: their kind or reason.
struct LaneItem {
  TimeNs start_ns = 0, end_ns = 0;
  std::uint32_t record = 0;  // index into Trace::works, or Trace::copies when `is_copy`
  std::uint8_t kind = 0;     // WorkKind or CopyReason
  bool is_copy = false;
};

struct LaneSummary {  // of the items that overlap a bucket of time
  TimeNs busy_ns = 0;          // their time inside the bucket
  std::uint32_t count = 0;     // items that start in it or reach into it
  std::uint8_t kind = 0;       // the kind with the most time
  bool is_copy = false;
};

class LaneIndex {
 public:
  void append(const LaneItem&);  // start_ns not before the previous item's
  std::span<const LaneItem> items() const { return items_; }
  // First item that ends after `t`; items().size() when none.
  std::size_t first_ending_after(TimeNs t) const;
  // One summary per bucket of equal width over [begin_ns, end_ns).
  void summarise(TimeNs begin_ns, TimeNs end_ns, std::span<LaneSummary> buckets) const;

 private:
  std::vector<LaneItem> items_;
  // Representation of the forest is the implementation's choice (busy per kind per block, doubling block sizes).
};

}  // namespace expertscope
