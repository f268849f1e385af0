// What there is to say about one record, for tooltips and the details panel. Pure.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "profiler/attribution.h"
#include "profiler/trace.h"
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

Description describe_work(const Trace&, const WorkRecord&);
Description describe_copy(const Trace&, const CopyRecord&, PrefetchFate);
Description describe_step(const Trace&, const StepRecord&);

}  // namespace expertscope
