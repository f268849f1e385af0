// A stretch of a session's records: what the collector hands on, what the writer stores, what the reader returns and
// what a Trace appends. Live and loaded sessions are the same sequence of batches.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "engine/observer.h"
#include "engine/run_info.h"
#include "profiler/cupti_records.h"

namespace expertscope {

struct Batch {
  std::optional<RunInfo> start;
  std::vector<StepRecord> steps;
  std::vector<WorkRecord> works;
  std::vector<CopyRecord> copies;
  std::vector<DemandRecord> demands;
  std::vector<ResidencyRecord> residency;
  std::vector<TokenRecord> tokens;
  std::vector<RouteRecord> routes;  // large: a Trace does not keep them, replay reads them from the session
  std::vector<EpochRecord> epochs;
  std::vector<PromptRecord> prompts;
  std::vector<MarkRecord> marks;
  std::vector<HealthNote> health;
  std::map<std::int32_t, std::string> pieces;  // token id -> its bytes, which need not be whole UTF-8 characters
  std::vector<LogitsRecord> logits;
  std::vector<QualityRecord> quality;
  GpuRecords gpu;                           // what CUPTI saw; from a file the copies alone, a Trace keeps no more
  GpuTotals gpu_totals;                     // of everything but the copies
  std::map<std::string, std::string> wall;  // what may differ between two equal runs
  bool ended = false;                       // the run closed the session in order

  bool empty() const;
};

}  // namespace expertscope
