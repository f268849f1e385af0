#include "engine/model/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <string>

#include "engine/error.h"
#include "engine/model/elementary.h"

namespace expertscope {

void check(const SamplingRule& rule) {
  if (!(rule.temperature >= 0 && rule.temperature <= 100)) {
    throw InputError("temperature must be between 0 (greedy) and 100, not " + std::to_string(rule.temperature));
  }
  if (!(rule.top_p > 0 && rule.top_p <= 1)) {
    throw InputError("top-p must be above 0 and at most 1, not " + std::to_string(rule.top_p));
  }
}

std::int32_t greedy_token(std::span<const float> logits) {
  std::size_t best = logits.size();
  for (std::size_t id = 0; id < logits.size(); ++id) {
    if (std::isnan(logits[id])) continue;
    if (best == logits.size() || logits[id] > logits[best]) best = id;
  }
  if (best == logits.size()) {
    throw RunError("the model gave no number as a logit; its weights are damaged, check the file against its source");
  }
  return static_cast<std::int32_t>(best);
}

Sampler::Sampler(const SamplingRule& rule) : rule_(rule) {
  check(rule);
  // splitmix64 spreads a small seed over the generator's state.
  std::uint64_t seed = rule.seed;
  for (std::uint64_t& word : state_) {
    seed += 0x9e3779b97f4a7c15u;
    std::uint64_t z = seed;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    word = z ^ (z >> 31);
  }
}

std::uint64_t Sampler::next_bits() {  // xoshiro256**
  const std::uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
  const std::uint64_t shifted = state_[1] << 17;
  state_[2] ^= state_[0];
  state_[3] ^= state_[1];
  state_[1] ^= state_[2];
  state_[0] ^= state_[3];
  state_[2] ^= shifted;
  state_[3] = std::rotl(state_[3], 45);
  return result;
}

std::int32_t Sampler::sample(std::span<const float> logits) {
  const std::int32_t best = greedy_token(logits);
  if (rule_.temperature == 0) return best;
  const float largest = logits[static_cast<std::size_t>(best)];
  const auto inverse = static_cast<float>(1 / rule_.temperature);
  candidates_.clear();
  double total = 0;
  for (std::size_t id = 0; id < logits.size(); ++id) {
    const float p = std::isnan(logits[id]) ? 0 : exp_f32((logits[id] - largest) * inverse);
    if (!(p > 0)) continue;
    candidates_.push_back({p, static_cast<std::int32_t>(id)});
    total += p;
  }
  if (candidates_.empty()) return best;  // the largest logit is infinite
  const double draw = static_cast<double>(next_bits() >> 11) * 0x1p-53;
  return rule_.top_p < 1 ? draw_from_best(total, draw) : draw_from_all(total, draw);
}

std::int32_t Sampler::draw_from_all(double total, double draw) const {
  double rest = draw * total;
  for (const Candidate& candidate : candidates_) {
    rest -= candidate.probability;
    if (rest < 0) return candidate.id;
  }
  return candidates_.back().id;
}

// Takes candidates off a heap, best first, until they have the share top_p; then draws among them.
std::int32_t Sampler::draw_from_best(double total, double draw) {
  const auto worse = [](const Candidate& a, const Candidate& b) {
    return a.probability != b.probability ? a.probability < b.probability : a.id > b.id;
  };
  std::make_heap(candidates_.begin(), candidates_.end(), worse);
  auto heap_end = candidates_.end();
  double kept = 0;
  while (heap_end != candidates_.begin() && kept < rule_.top_p * total) {
    std::pop_heap(candidates_.begin(), heap_end, worse);
    --heap_end;
    kept += heap_end->probability;
  }
  double rest = draw * kept;
  for (auto candidate = candidates_.end(); candidate != heap_end;) {  // best first
    --candidate;
    rest -= candidate->probability;
    if (rest < 0) return candidate->id;
  }
  return heap_end->id;
}

}  // namespace expertscope
