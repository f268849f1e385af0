// The routing-path predictor: from the ids of a text so far to a probability for every expert of every layer that the
// newest token will be routed to it. Small enough to run for each token before its first layer. One object may serve
// several texts; not thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/policy/prior.h"

namespace expertscope {

class RoutingPath {
 public:
  explicit RoutingPath(const RoutingPathWeights&);  // must outlive it

  // What is remembered of one text.
  struct Text {
    std::vector<float> recent;  // [recent][width]: the newest first, 0 where there is none
    std::vector<float> means;   // [decays][width]
  };
  Text begin() const;
  // The text goes on with a token; an id outside of the vocabulary counts as nothing.
  void add(Text&, std::int32_t id) const;
  // [layer * experts + expert], each on its own: they sum to about top-k a layer.
  std::span<const float> probabilities(const Text&);

  int vocabulary() const { return weights_.embedding.rows; }

 private:
  const RoutingPathWeights& weights_;
  std::vector<float> input_, output_;  // multiplied out
  std::vector<float> hidden_, result_;
};

}  // namespace expertscope
