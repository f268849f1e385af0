// How much of what texts are routed to a prediction would have named: recall at top-k candidates, by layer.
#pragma once

#include <string>
#include <vector>

#include "engine/learn/recorded_texts.h"
#include "engine/policy/prior.h"

namespace expertscope {

struct PredictionRecall {
  std::string predictor;
  std::vector<double> by_layer;  // share of picks that were among the layer's top-k candidates
  double mean = 0;               // over the layers it says something about
};

// Popularity, transitions from the layer before, the gate on the layer before (recorded with the texts) and the routing
// path, where the prior has them. A layer that a predictor says nothing about has recall 0. Every recorded token
// counts.
std::vector<PredictionRecall> judge_predictions(const Prior&, const RecordedTexts&);

}  // namespace expertscope
