// AdapMoE's sensitivities of layers, by finite differences of the loss (reference: policies.md B5).
#pragma once

#include <span>
#include <vector>

#include "engine/learn/recorded_texts.h"

namespace expertscope {

// In a layer, the lower half of each token's ranks (rank 2 of 2, ranks 5 to 8 of 8) is dropped and the weights of the
// others are divided by their sum, so that the sum over all ranks stays.
struct LayerSensitivity {
  double loss_rise = 0;    // nats a token, over the loss of the whole model
  double mean_square = 0;  // of the share of weight that was dropped: mean (1 - a)^2
  // w of dL = 1/2 (1 - a)^2 w; at least 0.
  double weight() const { return loss_rise > 0 && mean_square > 0 ? 2 * loss_rise / mean_square : 0; }
};

struct Sensitivities {
  double loss = 0;          // mean negative log likelihood of a token given those before it, nats
  std::int64_t tokens = 0;  // that were predicted
  std::vector<LayerSensitivity> layers;
};

// Reads the texts once as they are and once for each layer. Texts of less than two tokens say nothing; all empty when
// none says anything or when top-k is 1. Throws RunError when progress ends it.
Sensitivities measure_sensitivities(const Model&, ThreadPool&, std::span<const std::vector<std::int32_t>> texts,
                                    const LearnProgress&);

}  // namespace expertscope
