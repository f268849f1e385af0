// What a planted text does to a cache, counted from the routers and embeddings alone: the routes that an engine finds
// as long as what layers add to the residual stream is small.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/synth/planted_routing.h"

namespace expertscope {

struct RoutingStatistics {
  int tokens = 0;                   // of the text that were looked at
  double gini = 0;                  // of an expert's share of its layer's picks, 0 is even; mean over layers
  double top_10_percent_share = 0;  // of the picks, by the most popular tenth of a layer's experts (at least one)
  double next_token_overlap = 0;    // share of a token's experts that were also the token before's
  // Picks by how many tokens ago the layer's expert was last picked: up to 1, 2, 4, … 256; the last is never or longer.
  std::array<std::int64_t, 10> reuse{};

  // The first tokens' experts by layer, best first, and by how much the last one's logit beats the next expert's.
  struct Route {
    std::vector<std::uint16_t> experts;
    float margin = 0;
  };
  std::vector<std::vector<Route>> first;  // [token][layer]
};

RoutingStatistics measure_routing(const SynthShape&, const PlantedRouting&, std::span<const std::int32_t> stream,
                                  int threads);
std::string to_json(const RoutingStatistics&);

}  // namespace expertscope
