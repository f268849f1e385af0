// Attention of many tokens by cuBLAS: scores, softmax, sums of values, a group of heads at a time. cuBLAS is loaded
// when it is first wanted, so that a machine without it can start the program; without it prompts take the kernels that
// few tokens take.
#pragma once

#include <memory>
#include <string>

#include "engine/machines/cuda/device.h"
#include "engine/machines/cuda/kernels.h"

namespace expertscope::cuda {

class PromptAttention {
 public:
  explicit PromptAttention(const AttentionShape&);
  ~PromptAttention();

  // "" when it can be used; else why not, for people.
  const std::string& unavailable() const;
  // out (float16, [tokens][heads * head_dim]) of tokens at positions first, first + 1, …, whose keys and values are in
  // the cache already.
  void run(const float* q, KeyValues, int first, int tokens, __half* out, cudaStream_t);
  std::int64_t bytes() const;  // of work space so far

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace expertscope::cuda
