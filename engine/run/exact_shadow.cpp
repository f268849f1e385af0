#include "engine/run/exact_shadow.h"

#include <algorithm>

#include "engine/assert.h"
#include "engine/model/elementary.h"
#include "engine/model/likelihood.h"

namespace expertscope {

double kl_divergence(std::span<const float> exact, std::span<const float> policy) {
  ES_ASSERT(exact.size() == policy.size() && !exact.empty(), "logits of two vocabularies are compared");
  double sum = 0;
  const double exact_norm = log_sum_exp(exact), policy_norm = log_sum_exp(policy);
  for (std::size_t i = 0; i < exact.size(); ++i) {
    const double log_p = static_cast<double>(exact[i]) - exact_norm;
    sum += exp_f64(std::max(-700.0, log_p)) * (log_p - (static_cast<double>(policy[i]) - policy_norm));
  }
  return sum;
}

ExactShadow::ExactShadow(const Model& model, ThreadPool& pool, int max_step_tokens, int max_sequences,
                         std::uint64_t tokens)
    : pass_(model, pool, max_step_tokens, max_sequences), left_(tokens) {}

void ExactShadow::compare(int token, std::span<const float> policy_logits) {
  ES_ASSERT(left_ > 0, "compares more tokens than it was asked for");
  const std::span<const float> exact = pass_.logits(token);
  kl_sum_ += kl_divergence(exact, policy_logits);
  const auto best = [](std::span<const float> l) { return std::ranges::max_element(l) - l.begin(); };
  agreed_ += best(exact) == best(policy_logits) ? 1 : 0;
  ++shadowed_;
  --left_;
}

void ExactShadow::take(QualityRecord& quality) {
  quality.kl_sum += kl_sum_;
  quality.shadowed += shadowed_;
  quality.agreed += agreed_;
  kl_sum_ = 0;
  shadowed_ = agreed_ = 0;
}

}  // namespace expertscope
