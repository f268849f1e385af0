// Everything that several views derive from the trace, brought up to date once a frame in O(new records).
#pragma once

#include <cstdint>

#include "profiler/oracle.h"
#include "profiler/series.h"
#include "profiler/trace.h"
#include "views/expert_index.h"
#include "views/inexact_index.h"
#include "views/prefetch_fates.h"
#include "views/quality_index.h"
#include "views/timeline_rows.h"
#include "views/token_index.h"

namespace expertscope {

class TraceIndex {
 public:
  // Returns true when this is another session than last time: what was remembered about the old one must go.
  bool update(const Trace& trace) {
    const bool other = trace_ != nullptr && (&trace != trace_ || trace.revision() < revision_);
    if (other) {
      steps = {};
      oracle = {};
      experts = {};
      fates = {};
      inexact = {};
      quality = {};
      rows = {};
      tokens = {};
    }
    if (other || trace_ == nullptr || trace.revision() != revision_) {
      steps.update(trace);
      oracle.update(trace);
      experts.update(trace);
      fates.update(trace);
      inexact.update(trace);
      quality.update(trace);
      rows.update(trace, inexact);
      tokens.update(trace);
    }
    trace_ = &trace;
    revision_ = trace.revision();
    return other;
  }

  StepSummaries steps;
  OracleWindows oracle;
  ExpertIndex experts;
  PrefetchFates fates;
  InexactIndex inexact;
  QualityIndex quality;
  TimelineRows rows;
  TokenIndex tokens;

 private:
  const Trace* trace_ = nullptr;
  std::uint64_t revision_ = 0;
};

}  // namespace expertscope
