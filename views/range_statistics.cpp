#include "views/range_statistics.h"

#include "views/time_axis.h"

namespace expertscope {

const RangeStatistics::Values& RangeStatistics::of(const Trace& trace, TimeRange range) {
  const bool complete = range.end_ns <= end_ns_;
  if (values_ && trace_ == &trace && same(values_->range, range) && (complete || revision_ == trace.revision())) return *values_;
  values_ = Values{.range = range,
                   .experts = count_experts(trace, Phase::decode, range),
                   .transfers = count_transfers(trace, range),
                   .decode = decode_numbers(trace, range),
                   .overlapped = overlap(trace, range),
                   .parts = attribute_interval(trace, range.begin_ns, range.end_ns)};
  trace_ = &trace;
  revision_ = trace.revision();
  end_ns_ = trace.end_ns();
  return *values_;
}

}  // namespace expertscope
