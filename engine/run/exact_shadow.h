// The exact computation beside a run: a forward pass of the model over the same tokens with a KV cache of its own,
// without machine and cost. It sees what the run sees, token by token, so differences of one token do not add up to
// another text. Compared are the first tokens whose logits the run used; after them it stands still.
#pragma once

#include <cstdint>
#include <span>

#include "engine/learn/forward_pass.h"
#include "engine/observer.h"

namespace expertscope {

// KL(exact || policy) of the distributions that the logits stand for, nats. Both have the same size.
double kl_divergence(std::span<const float> exact, std::span<const float> policy);

// Called by the thread that runs the model, between its steps. Results do not depend on the pool's threads.
class ExactShadow {
 public:
  ExactShadow(const Model&, ThreadPool&, int max_step_tokens, int max_sequences, std::uint64_t tokens);

  bool wants_more() const { return left_ > 0; }
  void step(std::span<const TokenInput> tokens) { pass_.step(tokens); }
  // The run's logits of a token of the last step that wanted them.
  void compare(int token, std::span<const float> policy_logits);
  void reset_sequence(int sequence) { pass_.reset_sequence(sequence); }

  // Adds what was found since the last call.
  void take(QualityRecord&);

 private:
  ForwardPass pass_;
  std::uint64_t left_;
  double kl_sum_ = 0;
  std::uint64_t shadowed_ = 0, agreed_ = 0;
};

}  // namespace expertscope
