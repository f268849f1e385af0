// One lane of the timeline: its intervals in time order, with running sums of the busy time of every kind, so that a
// zoomed-out lane is drawn in O(pixels * log n) and shows how busy each pixel was and with what. Appending in time
// order is O(1) amortised.
#pragma once

#include <array>
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

struct LaneSummary {        // of the items that overlap a bucket of time
  TimeNs busy_ns = 0;       // their time inside the bucket
  std::uint32_t count = 0;  // items that start in it or reach into it
  std::uint8_t kind = 0;    // the kind with the most time
  bool is_copy = false;
};

class LaneIndex {
 public:
  // Items of one lane do not overlap. One that starts before the last item is put in its place, at a cost that grows
  // with the number of items after it; adding many at once costs that only once.
  void append(const LaneItem& item) { append(std::span(&item, 1)); }
  void append(std::span<const LaneItem>);

  std::span<const LaneItem> items() const { return items_; }
  // First item that ends after `t`; items().size() when none.
  std::size_t first_ending_after(TimeNs t) const;
  // First item that starts at or after `t`; items().size() when none.
  std::size_t first_starting_at(TimeNs t) const;
  // One summary per bucket of equal width over [begin_ns, end_ns).
  void summarise(TimeNs begin_ns, TimeNs end_ns, std::span<LaneSummary> buckets) const;

 private:
  static constexpr std::size_t kBlock = 32;                   // items per block
  static constexpr int kColours = kWorkKinds + kCopyReasons;  // copies follow the works
  using Sums = std::array<TimeNs, kColours>;

  struct Edge {                 // everything before a moment
    std::size_t started = 0;    // items that start before it
    bool reached_into = false;  // the last of them ends after it
    Sums busy{};                // of them, up to the moment
  };

  static int colour(const LaneItem& item) { return item.is_copy ? kWorkKinds + item.kind : item.kind; }
  Edge edge_at(TimeNs t) const;
  void index_from(std::size_t first_item);

  std::vector<LaneItem> items_;
  std::vector<TimeNs> block_start_;  // start_ns of the first item of every complete block
  std::vector<Sums>
      block_busy_;  // busy time per colour before every complete block, and after the last: one more entry
};

}  // namespace expertscope
