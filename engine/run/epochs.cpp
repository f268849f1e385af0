#include "engine/run/epochs.h"

#include <cmath>

#include <fmt/format.h>

#include "engine/error.h"

namespace expertscope {

Epochs::Epochs(Executor& executor, Machine& machine, Observer* observer, std::int64_t expert_bytes, int all_experts)
    : executor_(executor),
      machine_(machine),
      observer_(observer),
      expert_bytes_(expert_bytes),
      all_experts_(all_experts) {}

// A ratio is the share of all routed experts at native precision; 1e-9 forgives 0.3 * 10 < 3.
int Epochs::slots_for(double cache_ratio) const {
  return static_cast<int>(cache_ratio * all_experts_ + 1e-9);
}

void Epochs::begin(const Change& change, std::uint32_t step, std::uint32_t at_token) {
  if (!std::isfinite(change.cache_ratio) || change.cache_ratio < 0 || change.cache_ratio > 1) {
    throw InputError(fmt::format("cache ratio {} is not allowed: give a share from 0 to 1", change.cache_ratio));
  }
  executor_.configure(change.policy, slots_for(change.cache_ratio), change.cache_reset);
  policy_ = change.policy;
  cache_ratio_ = change.cache_ratio;
  slots_ = static_cast<std::uint32_t>(executor_.slots());
  if (observer_ != nullptr) {
    observer_->on_epoch({.epoch = count_,
                         .step = step,
                         .at_token = at_token,
                         .at_ns = machine_.now(),
                         .source = change.source,
                         .change = change.text,
                         .policy_spec = to_string(policy_),
                         .cache_ratio = cache_ratio_,
                         .cache_bytes = cache_bytes(),
                         .slots = slots_,
                         .cache_reset = change.cache_reset});
  }
  ++count_;
}

}  // namespace expertscope
