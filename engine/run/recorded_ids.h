// Which token ids the steps of a recorded run forwarded, from the tokens that it recorded. Steps are asked for in
// order.
#pragma once

#include <map>
#include <span>
#include <vector>

#include "engine/observer.h"

namespace expertscope {

class RecordedIds {
 public:
  RecordedIds(std::span<const TokenRecord> tokens, int context);

  // One id a token of the step; 0 where none was recorded.
  std::vector<std::int32_t> of(const StepRecord&);

 private:
  // A prompt and what was generated after it. A full context is rebuilt from its last half: then position 0 of the KV
  // cache is no longer the text's first token.
  struct Text {
    std::vector<std::int32_t> ids;
    std::size_t first = 0;      // place in the text of position 0
    std::size_t forwarded = 0;  // place after the last that a step has forwarded
  };

  std::size_t half_context_;
  std::map<std::uint32_t, Text> texts_;  // by prompt
};

}  // namespace expertscope
