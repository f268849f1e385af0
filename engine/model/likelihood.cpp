#include "engine/model/likelihood.h"

#include <algorithm>

#include "engine/model/elementary.h"

namespace expertscope {

double log_sum_exp(std::span<const float> logits) {
  const float largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float v : logits) sum += exp_f64(std::max(-700.0, static_cast<double>(v) - static_cast<double>(largest)));
  return log_f64(sum) + static_cast<double>(largest);
}

double negative_log_likelihood(std::span<const float> logits, std::int32_t id) {
  return log_sum_exp(logits) - static_cast<double>(logits[static_cast<std::size_t>(id)]);
}

}  // namespace expertscope
