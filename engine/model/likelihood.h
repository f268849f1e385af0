#pragma once

#include <cstdint>
#include <span>

namespace expertscope {

// Negative log likelihood of a token under its logits, nats.
double negative_log_likelihood(std::span<const float> logits, std::int32_t id);

}  // namespace expertscope
