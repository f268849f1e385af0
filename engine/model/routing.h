// From a router's logits to the experts of one token. A pure function: same logits, same picks, on every machine.
#pragma once

#include <cstdint>
#include <span>

#include "engine/model/model_description.h"

namespace expertscope {

// `logits` and `probabilities` have rule.experts entries, `ids` and `weights` rule.top_k.
// ids: best first, distinct, ties to the lower index. They are chosen by logit, which orders as every gate function
// does and keeps apart what rounding of the probabilities would tie.
// weights: what the experts' outputs are summed with, after softmax over the selected, renormalisation and scale.
// probabilities: the gate's output for every expert (softmax of the logits where the gate is `none`).
// Throws RunError when a logit is not finite: a model whose router says NaN chooses nothing.
void route(const RouterRule& rule, std::span<const float> logits, std::span<std::uint16_t> ids,
           std::span<float> weights, std::span<float> probabilities);

// The indices of the ids.size() largest values, best first, ties to the lower index. No value is NaN.
void select_best(std::span<const float> values, std::span<std::uint16_t> ids);

// Probabilities alone, for gates of coming layers.
void gate_probabilities(const RouterRule& rule, std::span<const float> logits, std::span<float> probabilities);

}  // namespace expertscope
