// What there is to say about one record, for tooltips and the details panel. Pure.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "profiler/attribution.h"
#include "profiler/trace.h"
#include "views/inexact_index.h"
#include "views/prefetch_fates.h"

namespace expertscope {

struct Description {
  std::string title;
  std::vector<std::pair<std::string, std::string>> lines;  // name, value; at most seven
  std::optional<std::uint32_t> step;                       // links
  std::optional<ExpertId> expert;
};

std::string expert_name(ExpertId);                        // "L3·E5"
std::string step_name(const Trace&, std::uint32_t step);  // "token 141", "prompt, 32 tokens"
std::string readable(std::string_view identifier);        // "wait_demand" -> "wait demand"
std::string work_name(WorkKind);                          // for people: "attention", "wait for a demand copy"
std::string part_name(TimePart);                          // "GPU compute", "demand wait"
// "policy on-demand → lfu"; the first epoch says what it starts with.
std::string epoch_text(const EpochRecord&);

// "4 useful, 1 late, 2 wasted"; those that nobody asked for yet are "open". "" when there are none.
std::string prefetch_text(const PrefetchCounts&);

Description describe_work(const Trace&, const WorkRecord&, EarlyWork);
Description describe_copy(const Trace&, const CopyRecord&, PrefetchFate);
// One layer of one step: what it asked for, and what of it was left out.
Description describe_layer(const Trace&, std::uint32_t step, std::uint16_t layer);
Description describe_step(const Trace&, const StepRecord&, const InexactCounts&, const PrefetchCounts&);

}  // namespace expertscope
