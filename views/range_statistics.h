// What happened in the selected range. Complete steps are taken from their summaries and only the edges are swept, so
// that a range of a ten-million-record session can be dragged; every number is the one that the profiler's functions
// give.
#pragma once

#include <optional>

#include "profiler/attribution.h"
#include "profiler/metrics.h"
#include "profiler/trace.h"
#include "views/trace_index.h"

namespace expertscope {

struct RangeValues {
  TimeRange range;
  ExpertCounts experts;      // of decode steps
  TransferTotals transfers;  // expert copies, without what else crossed the link
  DecodeNumbers decode;
  Overlap overlapped;  // of decode steps: busy and copies; not the CPU's share
  Attribution parts;   // of the whole stretch
};
RangeValues range_values(const Trace&, const TraceIndex&, TimeRange);

// The last range's values, until it changes or grows. With `refresh` false those of a moment ago will do.
class RangeStatistics {
 public:
  const RangeValues& of(const Trace&, const TraceIndex&, TimeRange, bool refresh);

 private:
  std::optional<RangeValues> values_;
  const Trace* trace_ = nullptr;
  std::uint64_t revision_ = 0;
  TimeNs end_ns_ = 0;  // of the trace when they were computed
};

}  // namespace expertscope
