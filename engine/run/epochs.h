// The policy and cache size in force, and their changes. Used by a live run and by replay, so that both change alike.
#pragma once

#include <cstdint>
#include <string>

#include "engine/machine.h"
#include "engine/observer.h"
#include "engine/policy/registry.h"
#include "engine/run/executor.h"

namespace expertscope {

class Epochs {
 public:
  Epochs(Executor& executor, Machine& machine, Observer* observer, std::int64_t expert_bytes, int all_experts);

  // Takes a policy and cache ratio into force and records the epoch. InputError when refused; then nothing has changed.
  struct Change {
    PolicySpec policy;
    double cache_ratio = 0;
    bool cache_reset = false;
    std::string source;  // "start", "user", "script"
    std::string text;    // for people
  };
  void begin(const Change& change, std::uint32_t step, std::uint32_t at_token);

  const PolicySpec& policy() const { return policy_; }
  double cache_ratio() const { return cache_ratio_; }
  std::uint32_t slots() const { return slots_; }
  std::int64_t cache_bytes() const { return slots_for(cache_ratio_) * expert_bytes_; }
  std::uint32_t current() const { return count_ - 1; }
  int slots_for(double cache_ratio) const;

 private:
  Executor& executor_;
  Machine& machine_;
  Observer* observer_;
  std::int64_t expert_bytes_;
  int all_experts_;
  PolicySpec policy_;
  double cache_ratio_ = 0;
  std::uint32_t slots_ = 0;
  std::uint32_t count_ = 0;
};

}  // namespace expertscope
