#include "engine/model/routing.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "engine/assert.h"
#include "engine/error.h"
#include "engine/model/elementary.h"
#include "engine/model/kernels.h"

namespace expertscope {

namespace {

// Softmax of a short row through the padded kernel.
void softmax_of(std::span<const float> logits, std::span<float> out) {
  std::array<float, kMaxExperts> padded;
  std::copy(logits.begin(), logits.end(), padded.begin());
  softmax(padded.data(), static_cast<int>(logits.size()));
  std::copy_n(padded.begin(), out.size(), out.begin());
}

void check_finite(std::span<const float> logits) {
  for (std::size_t e = 0; e < logits.size(); ++e) {
    if (!std::isfinite(logits[e])) {
      throw RunError("the router's logit for expert " + std::to_string(e) +
                     " is not a finite number; the model's weights are damaged, check the file against its source");
    }
  }
}

// The best `ids.size()` logits in order, ties to the lower index: insertion into a short sorted list.
void select_best(std::span<const float> logits, std::span<std::uint16_t> ids) {
  std::size_t filled = 0;
  for (std::size_t e = 0; e < logits.size(); ++e) {
    std::size_t place = filled;
    while (place > 0 && logits[e] > logits[ids[place - 1]]) --place;
    if (place == ids.size()) continue;
    if (filled < ids.size()) ++filled;
    for (std::size_t i = filled - 1; i > place; --i) ids[i] = ids[i - 1];
    ids[place] = static_cast<std::uint16_t>(e);
  }
}

}  // namespace

void gate_probabilities(const RouterRule& rule, std::span<const float> logits, std::span<float> probabilities) {
  ES_ASSERT(logits.size() == probabilities.size() && logits.size() <= kMaxExperts, "one probability per expert");
  check_finite(logits);
  if (rule.gate == RouterGate::sigmoid) {
    for (std::size_t e = 0; e < logits.size(); ++e) probabilities[e] = 1 / (1 + exp_f32(-logits[e]));
  } else {
    softmax_of(logits, probabilities);
  }
}

void route(const RouterRule& rule, std::span<const float> logits, std::span<std::uint16_t> ids,
           std::span<float> weights, std::span<float> probabilities) {
  ES_ASSERT(logits.size() == static_cast<std::size_t>(rule.experts), "one logit per expert");
  ES_ASSERT(ids.size() == static_cast<std::size_t>(rule.top_k) && weights.size() == ids.size(), "top-k picks");
  gate_probabilities(rule, logits, probabilities);
  select_best(logits, ids);
  for (std::size_t j = 0; j < ids.size(); ++j) {
    weights[j] = rule.gate == RouterGate::none ? logits[ids[j]] : probabilities[ids[j]];
  }
  if (rule.softmax_on_selected) {
    std::array<float, kMaxTopK> selected;
    std::copy(weights.begin(), weights.end(), selected.begin());
    softmax_of(std::span<const float>(selected.data(), weights.size()), weights);
  }
  if (rule.renormalise) {
    float sum = 0;
    for (const float w : weights) sum += w;
    // All selected may underflow to 0 only for a sigmoid; then they are equally unlikely.
    for (float& w : weights) w = sum > 0 ? w / sum : 1.0f / static_cast<float>(weights.size());
  }
  for (float& w : weights) w *= rule.scale;
}

}  // namespace expertscope
