// Which token record a step sampled. Extended with the trace.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "profiler/trace.h"

namespace expertscope {

class TokenIndex {
 public:
  void update(const Trace& trace) {
    for (; next_ < trace.tokens.size(); ++next_) {
      const TokenRecord& token = trace.tokens[next_];
      if (!token.generated) continue;
      if (token.step >= by_step_.size()) by_step_.resize(token.step + 1, kNone);
      by_step_[token.step] = static_cast<std::uint32_t>(next_);
    }
  }
  // Index into Trace::tokens.
  std::optional<std::uint32_t> sampled_by(std::uint32_t step) const {
    if (step >= by_step_.size() || by_step_[step] == kNone) return std::nullopt;
    return by_step_[step];
  }

 private:
  static constexpr std::uint32_t kNone = 0xffffffff;
  std::vector<std::uint32_t> by_step_;
  std::size_t next_ = 0;
};

}  // namespace expertscope
