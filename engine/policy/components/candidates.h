// What predictors have in common: a layer's probabilities become candidates.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "engine/policy/component.h"

namespace expertscope::components {

// Appends the experts of a coming layer that are expected at all, [expert], likeliest first, at most `most` of them; of
// equally likely ones the lower number. Their probabilities are scaled.
inline void add_likeliest(std::span<const float> expected, int layer, int distance, std::size_t most,
                          std::vector<Candidate>& out, float scale = 1) {
  const std::size_t begin = out.size();
  for (std::size_t e = 0; e < expected.size(); ++e) {
    if (expected[e] <= 0) continue;
    const ExpertId id{.layer = static_cast<std::uint16_t>(layer), .expert = static_cast<std::uint16_t>(e)};
    out.push_back({.expert = id, .distance = distance, .probability = scale * expected[e]});
  }
  const std::size_t kept = std::min(out.size() - begin, most);
  const auto first = out.begin() + static_cast<std::ptrdiff_t>(begin);
  std::partial_sort(first, first + static_cast<std::ptrdiff_t>(kept), out.end(),
                    [](const Candidate& a, const Candidate& b) {
                      return a.probability != b.probability ? a.probability > b.probability : a.expert < b.expert;
                    });
  out.resize(begin + kept);
}

}  // namespace expertscope::components
