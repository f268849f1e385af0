// What happened in the selected range, computed once for it and again only while the range is still growing.
#pragma once

#include <optional>

#include "profiler/attribution.h"
#include "profiler/metrics.h"
#include "profiler/trace.h"

namespace expertscope {

class RangeStatistics {
 public:
  struct Values {
    TimeRange range;
    ExpertCounts experts;
    TransferTotals transfers;
    DecodeNumbers decode;
    Overlap overlapped;
    Attribution parts;
  };
  const Values& of(const Trace&, TimeRange);

 private:
  std::optional<Values> values_;
  const Trace* trace_ = nullptr;
  std::uint64_t revision_ = 0;
  TimeNs end_ns_ = 0;  // of the trace when they were computed
};

}  // namespace expertscope
