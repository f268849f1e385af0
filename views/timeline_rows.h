// The rows of the timeline and the index each is drawn from. A GPU's lane is split in two, what it computed and what it
// waited for, so that both can be read when zoomed out.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "profiler/trace.h"
#include "views/inexact_index.h"

namespace expertscope {

enum class RowKind : std::uint8_t { gpu, waits, h2d, d2h, cpu, host, storage };

struct TimelineRow {
  RowKind kind = RowKind::gpu;
  std::uint8_t device = 0;
  std::string label;  // "GPU 0" with several GPUs, else "GPU"
  const LaneIndex* items = nullptr;
  // Some of them: of the CPU those that were computed early, of a link the copies below native precision. nullptr when
  // there are none.
  const LaneIndex* marked = nullptr;
};

bool is_wait(WorkKind);

class TimelineRows {
 public:
  void update(const Trace&, const InexactIndex&);
  // In drawing order; rows that never had an item are left out, but for the GPU, its waits, the link and the CPU.
  std::vector<TimelineRow> rows(const Trace&) const;

 private:
  struct SplitLane {
    LaneIndex compute, waits;
    std::size_t next = 0;
  };
  struct MarkedItems {
    LaneIndex items;
    std::size_t next = 0;
  };
  std::map<std::uint8_t, SplitLane> gpus_;       // by device
  std::map<std::uint8_t, MarkedItems> low_h2d_;  // copies below native precision, by device
  MarkedItems early_;
};

}  // namespace expertscope
