// A small made-up session that looks like a real one: 12 layers of 16 experts, top 2, two prompts, a few hundred
// decoded tokens under an LRU cache, with a change of policy and one of cache size, prefetches that come in time, late
// or for nothing, and some experts on the CPU. The same in every run.
#pragma once

#include <vector>

#include "engine/run/live_status.h"
#include "profiler/trace.h"
#include "views/hooks.h"

namespace expertscope::sample {

struct Options {
  int layers = 12, experts = 16;
  int prompts = 2, prompt_tokens = 24, tokens_each = 160;  // generated for each prompt, the first by its prefill
  int policy_change_at = 100, cache_change_at = 210;       // generated tokens
};

// One batch for each step, as a collector hands them over.
std::vector<Batch> batches(const Options& = {});
Trace trace(const Options& = {});
LiveStatus live_status(const Trace&);
Hooks hooks();  // workloads and a list of three sessions

}  // namespace expertscope::sample
