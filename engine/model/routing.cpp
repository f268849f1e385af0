#include "engine/model/routing.h"

#include <algorithm>
#include <array>
#include <bit>
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

constexpr std::size_t kBlock = 16;

// Integers that order as the floats do; both zeros are equal.
std::int32_t order_of(float v) {
  const auto bits = std::bit_cast<std::int32_t>(v + 0.0F);
  return bits ^ ((bits >> 31) & 0x7fffffff);
}

std::int32_t largest(const std::int32_t* block) {
  std::int32_t most = block[0];
  for (std::size_t i = 1; i < kBlock; ++i) most = std::max(most, block[i]);
  return most;
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

// Takes the largest of the blocks' largest again and again: no branch depends on the values but the two searches.
void select_best(std::span<const float> values, std::span<std::uint16_t> ids) {
  ES_ASSERT(values.size() <= kMaxExperts && ids.size() <= values.size(), "chooses among the experts of a layer");
  constexpr std::int32_t kTaken = INT32_MIN;
  const std::size_t blocks = (values.size() + kBlock - 1) / kBlock;
  std::array<std::int32_t, kMaxExperts> keys;
  std::array<std::int32_t, kMaxExperts / kBlock> most;
  for (std::size_t e = 0; e < values.size(); ++e) keys[e] = order_of(values[e]);
  std::fill(keys.begin() + static_cast<std::ptrdiff_t>(values.size()),
            keys.begin() + static_cast<std::ptrdiff_t>(blocks * kBlock), kTaken);
  for (std::size_t b = 0; b < blocks; ++b) most[b] = largest(keys.data() + b * kBlock);
  for (std::uint16_t& id : ids) {
    std::size_t block = 0;
    for (std::size_t b = 1; b < blocks; ++b) block = most[b] > most[block] ? b : block;
    std::size_t e = block * kBlock;
    while (keys[e] != most[block]) ++e;
    id = static_cast<std::uint16_t>(e);
    keys[e] = kTaken;
    most[block] = largest(keys.data() + block * kBlock);
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
