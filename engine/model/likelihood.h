#pragma once

#include <cstdint>
#include <span>

namespace expertscope {

// Of logits, at least one: what turns them into log probabilities when it is taken away.
double log_sum_exp(std::span<const float> logits);

// Negative log likelihood of a token under its logits, nats.
double negative_log_likelihood(std::span<const float> logits, std::int32_t id);

}  // namespace expertscope
