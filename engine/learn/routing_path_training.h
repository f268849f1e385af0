// Trains the routing-path predictor on recorded texts: plain mini-batch Adam on the mean binary cross-entropy of all
// experts of all layers. Deterministic: equal texts, rule and seed give equal weights on every x86-64-v3 CPU and for
// every number of threads.
#pragma once

#include <cstdint>

#include "engine/learn/recorded_texts.h"
#include "engine/policy/prior.h"

namespace expertscope {

struct RoutingPathRule {
  int recent = 5;                            // tokens seen one by one
  std::vector<double> decays = {0.8, 0.98};  // of the running means of all tokens so far
  int width = 16;                            // of a token's embedding: the model's own, projected
  int hidden = 112;
  int epochs = 20;
  double rate = 3e-3;     // Adam's, at the start; falls to 0 as a cosine
  double decay = 1e-2;    // of weights, a step, times the rate
  double dropout = 0.05;  // share of embedded inputs that is left out while training
  std::uint64_t seed = 1;
};

// A text is trained on from its first token; of a prompt recorded more than once, only continuations after the first.
RoutingPathWeights train_routing_path(const Model&, ThreadPool&, const RecordedTexts&, const RoutingPathRule&,
                                      const LearnProgress&);

}  // namespace expertscope
