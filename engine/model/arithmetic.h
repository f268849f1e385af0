// The arithmetic of a forward pass, in the pieces that a machine schedules. Holds the activations of one step and the
// KV cache of every sequence. Results depend neither on the number of threads nor on which tokens share a step: a
// token's values are the same bits in a prompt's batch and alone.
//
// A step is: begin_step; for each layer attention, router, then for each token its experts and combine; head.
// Not thread-safe: called from the machine's thread only, parallel inside through the pool. Calling out of order, with
// an index out of range or beyond the context is our own mistake and asserts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "engine/model/kernels.h"
#include "engine/model/model.h"
#include "engine/model/thread_pool.h"

namespace expertscope {

struct TokenInput {
  std::int32_t id = 0;
  std::int32_t sequence = 0;
  std::int32_t position = 0;  // the next one of its sequence: several tokens of one sequence follow each other
  bool wants_logits = false;
};

class Arithmetic {
 public:
  Arithmetic(const Model& model, ThreadPool& pool, int max_step_tokens, int max_sequences);

  void begin_step(std::span<const TokenInput> tokens);  // embedding rows into x
  void attention(int layer);                            // x += Wo Attn(norm(x)); appends to the KV cache
  void router(int layer);                               // x_l = norm'(x) and the logits of this layer's router

  // Of the last router(): one logit per expert.
  std::span<const float> router_logits(int token) const;
  // Another layer's router applied to this layer's x_l ("gate l + d on x_l"); out has one entry per expert.
  void lookahead_logits(int other_layer, int token, std::span<float> out) const;

  // Where an expert's output goes: that token of the step, as the token's choice number `rank`.
  struct ExpertRow {
    std::int32_t token = 0;
    std::int32_t rank = 0;
  };
  // Runs one expert of the layer on x_l of the given tokens, from a blob laid out as Model::blob_layout(layer) says,
  // wherever it lies. The blob's start must be 8-byte aligned.
  void expert(int layer, std::span<const std::byte> blob, std::span<const ExpertRow> rows);
  // From a blob of another version, laid out as that says.
  void expert(int layer, const ExpertBlobLayout&, std::span<const std::byte> blob, std::span<const ExpertRow> rows);

  // The same for an expert of the next layer, on this layer's x_l (an inexact policy computes ahead). Its outputs take
  // their places when that layer's router() has run.
  void expert_ahead(int next_layer, std::span<const std::byte> blob, std::span<const ExpertRow> rows);

  // x += sum over ranks, in rank order, of weights[rank] * output[token][rank]. A rank of weight 0 is left out, so it
  // need not have been computed.
  void combine(int layer, int token, std::span<const float> weights);

  void head();                                     // final norm and logits of the tokens that want them
  std::span<const float> logits(int token) const;  // [vocab]; of a token that wanted them, after head()

  // The hidden state entering the experts of the last router() (x_l) and the residual stream, for inexact policies and
  // tests.
  std::span<const float> expert_input(int token) const;
  std::span<const float> hidden(int token) const;
  std::span<const float> expert_output(int token, int rank) const;

  void reset_sequence(int sequence);        // forget its KV cache
  int sequence_length(int sequence) const;  // positions it holds

  std::int64_t kv_bytes_per_token() const;  // over all layers, float32
  std::int64_t kv_bytes() const;            // with every sequence at full context

 private:
  struct Sequence {
    int length = 0;
    int capacity = 0;
    // [layer][kv head]: capacity rows of head_dim
    std::vector<std::vector<float>> keys, values;
  };

  static float* row(std::vector<float>& buffer, int token, int width);
  float* output_row(int token, int rank);
  void run_expert(const ExpertBlobLayout&, std::span<const std::byte> blob, std::span<const ExpertRow> rows,
                  std::vector<float>& output);
  std::span<const float> view(const std::vector<float>& buffer, int token, int width) const;
  int step_tokens() const;
  void grow(Sequence& sequence);
  void for_tokens(const std::function<void(int)>& body);
  void normalise_heads(int layer, int token);
  void rotate_and_store(int layer, int token);
  void attend_all(int layer);

  const Model& model_;
  const ModelDescription& description_;
  ThreadPool& pool_;
  Kernels kernels_;
  int max_tokens_;
  std::vector<double> rope_frequencies_;
  std::vector<std::vector<float>> attention_scores_;  // by thread
  int current_layer_ = -1;
  std::vector<TokenInput> tokens_;
  std::vector<Sequence> sequences_;
  std::vector<int> logit_rows_;                      // by token, -1 where none
  std::vector<float> rope_cos_, rope_sin_;           // [token][dims / 2]
  std::vector<float> x_, normed_, expert_input_;     // [token][width]
  std::vector<float> q_, k_, v_, attended_, delta_;  // [token][…]
  std::vector<float> router_logits_;                 // [token][experts]
  std::vector<float> hidden_;                        // [rows of one expert][expert_ff]
  std::vector<float> expert_output_;                 // [token][rank][width]
  std::vector<float> ahead_output_;        // the same for the next layer; empty until something is computed ahead
  std::vector<ExpertRow> ahead_rows_;      // what it holds
  std::vector<const float*> expert_from_;  // rows of the expert that runs
  std::vector<float*> expert_to_;
  std::vector<float> logits_;  // [tokens that want them][vocab]
};

}  // namespace expertscope
