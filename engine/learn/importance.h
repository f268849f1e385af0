// EdgeMoE's importance of experts: what the loss rises by when one is in a lower bit-width (reference: policies.md B6).
#pragma once

#include <span>
#include <vector>

#include "engine/learn/recorded_texts.h"
#include "engine/policy/prior.h"

namespace expertscope {

// Reads the texts with every expert in int4 but one, which is in int2, for each expert in turn; then, for both pairs of
// bit-widths, with growing shares of the least important experts in the lower one. Texts of less than two tokens say
// nothing; empty when none says anything. Throws RunError when progress ends it.
ExpertImportance measure_importance(const Model&, ThreadPool&, std::span<const std::vector<std::int32_t>> texts,
                                    const LearnProgress&);

}  // namespace expertscope
