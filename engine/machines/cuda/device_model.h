// A model's dense weights on the device, and the operations of a forward pass over the activations of one step, queued
// on one stream. What the experts do is the machine's; this holds the buffers that they work on.
//
// Steps of few tokens compute in float32. From kLargeStep tokens on, products take float16 activations (and weights
// multiplied out to float16) with float32 sums: the tensor cores.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "engine/machines/cuda/device.h"
#include "engine/machines/cuda/kernels.h"
#include "engine/machines/cuda/prompt_attention.h"
#include "engine/model/arithmetic.h"
#include "engine/model/model.h"

namespace expertscope::cuda {

inline constexpr int kLargeStep = 64;

class DeviceModel {
 public:
  DeviceModel(const Model&, int max_step_tokens, cudaStream_t);

  bool large() const { return tokens_ >= kLargeStep; }
  void begin_step(std::span<const TokenInput>, Stamp);
  void attention(int layer, Stamp);
  RouterGates gates(int layer, int ahead) const;
  RouterOutputs router_outputs() const;
  Choice choice(const std::uint64_t* table) const;  // of the step's only token
  ExpertRun expert_run(int layer) const;            // without tiles and picks
  void head(Stamp);                                 // of the tokens that want logits
  // Copies what the host wants to page-locked memory, in the stream's order.
  void fetch_logits();
  std::span<const float> logits(int token) const;  // valid once the stream got there

  float* x() const { return x_.data(); }
  float* weights() const { return weights_.data(); }  // [tokens][top_k], room for whole words of 16 bytes
  const float* output() const { return output_.data(); }
  const float* expert_input() const { return expert_input_.data(); }
  float* router_logits() const { return router_logits_.data(); }

  std::int64_t dense_bytes() const { return dense_.size(); }
  // KV caches of so many sequences, from now on.
  void hold_sequences(int count);
  int sequences() const { return static_cast<int>(caches_.size()); }
  std::int64_t kv_bytes() const;
  std::int64_t first_kv_bytes() const;  // of a sequence that has just begun
  std::int64_t work_bytes() const;
  const std::string& no_prompt_attention() const { return prompt_attention_.unavailable(); }

 private:
  struct Layer {
    DeviceMatrix q, k, v, output, router;
    const float *attention_norm = nullptr, *expert_norm = nullptr, *q_norm = nullptr, *k_norm = nullptr;
  };
  void upload();
  DeviceMatrix put(const WeightView&, std::int64_t& at);
  const float* put(const std::vector<float>&, std::int64_t& at);
  // A sequence's keys and values: it doubles when the sequence needs more.
  struct Cache {
    int capacity = 0;
    DeviceArray<float> keys, values;  // [layer][capacity][kv width]
  };
  // Tokens of one sequence that follow each other in the step.
  struct Run {
    int sequence = 0;
    int first = 0, count = 0;  // tokens of the step
    int position = 0;          // of its first token
  };
  int first_positions() const;
  void grow(Cache&, int positions);
  KeyValues key_values(int layer, int sequence) const;
  void attend_run(const Layer&, KeyValues, const Run&);

  const Model& model_;
  const ModelDescription& description_;
  int max_tokens_;
  cudaStream_t stream_;
  AttentionShape shape_;
  DeviceArray<std::uint8_t> dense_;
  DeviceMatrix embedding_, head_;
  const float* output_norm_ = nullptr;
  Turns turns_;
  std::vector<Layer> layers_;

  std::vector<Cache> caches_;  // by sequence

  // The step in work.
  int tokens_ = 0;
  std::vector<Run> runs_;
  MappedArray<StepToken> tokens_in_;
  DeviceArray<StepToken> step_tokens_;
  DeviceArray<float> x_, q_, k_, v_, attended_, expert_input_, router_logits_, weights_, hidden_, output_;
  DeviceArray<__half> normed_half_, attended_half_, expert_input_half_, hidden_half_;
  DeviceArray<Turn> turn_values_;  // of the step's tokens
  DeviceArray<float> parts_;       // of attention over a long context
  DeviceArray<std::uint32_t> part_counters_;
  std::vector<int> logit_rows_;  // by token, -1 where none
  MappedArray<std::int32_t> wanted_;
  int wanted_count_ = 0;
  DeviceArray<float> logits_;
  MappedArray<float> host_logits_;
  PromptAttention prompt_attention_;
};

}  // namespace expertscope::cuda
