// Which tokens the steps of a recorded run forwarded, from the steps, prompts and tokens that it recorded. Steps are
// asked for in order.
#pragma once

#include <map>
#include <span>
#include <vector>

#include "engine/model/arithmetic.h"
#include "engine/observer.h"

namespace expertscope {

class RecordedTokens {
 public:
  RecordedTokens(std::span<const TokenRecord>, std::span<const PromptRecord>, int context);

  // One for each token of the step. Ids are 0 where none was recorded.
  std::vector<TokenInput> of(const StepRecord&);

 private:
  // A prompt and what was generated after it. A full context is rebuilt from its last half: then position 0 of the KV
  // cache is no longer the text's first token.
  struct Text {
    std::vector<std::int32_t> ids;
    std::int32_t sequence = 0;
    std::size_t first = 0;      // place in the text of position 0
    std::size_t forwarded = 0;  // place after the last that a step has forwarded
  };
  TokenInput next_of(Text&);

  std::size_t half_context_;
  std::map<std::uint32_t, Text> texts_;                              // by prompt
  std::map<std::uint32_t, std::vector<std::uint32_t>> sampled_for_;  // by step: the prompts whose tokens it sampled
};

}  // namespace expertscope
