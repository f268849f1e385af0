// What-if: the recorded routing of a session under another policy and cache size, through the same executor, with the
// arithmetic switched off. Results are SIMULATED.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine/observer.h"
#include "engine/policy/prior.h"
#include "engine/policy/registry.h"
#include "engine/run_info.h"

namespace expertscope {

// What a session says about its routing; storage fills it (storage/reader.h).
struct RecordedRun {
  RunInfo info;
  std::vector<StepRecord> steps;
  std::vector<PromptRecord> prompts;
  std::vector<EpochRecord> epochs;
  std::vector<RouteRecord> routes;  // ordered by step, layer, token
  std::vector<TokenRecord> tokens;  // of each prompt in order: its own, then generated ones
};

struct ReplayRequest {
  std::optional<PolicySpec> policy = {};   // empty: the session's own policies and ratios, epoch by epoch
  std::optional<double> cache_ratio = {};  // empty: the session's own
  std::optional<Prior> prior = {};
};

// Why a request cannot be replayed ("needs --record-gates 1", "resident needs cache ratio 1"); empty when it can.
std::string why_not(const RecordedRun&, const ReplayRequest&);

// Emits the records of the replayed run to the observer, as a live run would. Throws InputError for what why_not names.
void replay(const RecordedRun&, const ReplayRequest&, Observer&);

}  // namespace expertscope
