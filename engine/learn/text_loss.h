// The loss of a model over texts, as finite differences of it are taken.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/learn/forward_pass.h"
#include "engine/learn/recorded_texts.h"

namespace expertscope {

class TextLoss {
 public:
  // Reads the texts `readings` times in all; progress counts those tokens.
  TextLoss(const Model&, ThreadPool&, std::span<const std::vector<std::int32_t>> texts, std::int64_t readings,
           LearnProgress);

  ForwardPass& pass() { return pass_; }
  std::int64_t predicted() const { return predicted_; }  // tokens; 0: the texts say nothing
  // One reading: mean negative log likelihood of a token given those before it, nats. RunError when progress ends it.
  double measure();

 private:
  std::span<const std::vector<std::int32_t>> texts_;
  LearnProgress progress_;
  ForwardPass pass_;
  std::int64_t predicted_ = 0, done_ = 0, all_ = 0;
};

}  // namespace expertscope
