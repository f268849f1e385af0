// Chooses the next token from logits: greedily, or by a seeded draw with temperature and top-p. The same seed and
// logits give the same tokens on every machine. One sampler per sequence; not thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace expertscope {

struct SamplingRule {
  double temperature = 0;  // 0 = greedy
  double top_p = 1;        // (0, 1]: draw from the smallest set of best tokens that has this share
  std::uint64_t seed = 0;
};

// Throws InputError when a value is out of range.
void check(const SamplingRule&);

// Token with the largest logit, ties to the lower id. Throws RunError when no logit is a number.
std::int32_t greedy_token(std::span<const float> logits);

class Sampler {
 public:
  explicit Sampler(const SamplingRule& rule);
  std::int32_t sample(std::span<const float> logits);

 private:
  std::uint64_t next_bits();
  std::int32_t draw_from_all(double total, double draw) const;
  std::int32_t draw_from_best(double total, double draw);

  SamplingRule rule_;
  std::uint64_t state_[4];  // xoshiro256**
  struct Candidate {
    float probability;
    std::int32_t id;
  };
  std::vector<Candidate> candidates_;
};

}  // namespace expertscope
