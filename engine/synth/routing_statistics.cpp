#include "engine/synth/routing_statistics.h"

#include <algorithm>
#include <bit>

#include <nlohmann/json.hpp>

#include "engine/model/thread_pool.h"

namespace expertscope {
namespace {

constexpr std::size_t kTokens = 512;       // looked at
constexpr std::size_t kGoldenTokens = 32;  // listed

using Route = RoutingStatistics::Route;

float dot(const float* a, const float* b, std::size_t n) {
  float lanes[8] = {};
  for (std::size_t i = 0; i < n; i += 8)
    for (std::size_t k = 0; k < 8; ++k) lanes[k] += a[i + k] * b[i + k];
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

Route route_of(std::vector<std::pair<float, std::uint16_t>>& logits, int top_k) {
  const auto k = static_cast<std::size_t>(top_k);
  std::ranges::partial_sort(logits, logits.begin() + top_k + 1, [](const auto& a, const auto& b) {
    return a.first > b.first || (a.first == b.first && a.second < b.second);
  });
  Route route;
  for (std::size_t i = 0; i < k; ++i) route.experts.push_back(logits[i].second);
  route.margin = logits[k - 1].first - logits[k].first;
  return route;
}

// One layer's part of the statistics, sums over its picks.
struct LayerCounts {
  std::vector<Route> routes;  // [token]
  double gini = 0;
  std::int64_t top_share = 0, overlap = 0;
  std::array<std::int64_t, 10> reuse{};
};

void count(LayerCounts& layer, int experts) {
  std::vector<std::int64_t> picks(static_cast<std::size_t>(experts), 0);
  std::vector<std::int64_t> last(static_cast<std::size_t>(experts), -1);
  for (std::size_t t = 0; t < layer.routes.size(); ++t) {
    for (const std::uint16_t e : layer.routes[t].experts) {
      ++picks[e];
      const std::int64_t now = static_cast<std::int64_t>(t), ago = last[e] < 0 ? 1 << 30 : now - last[e];
      layer.overlap += ago == 1;
      const int bucket = std::bit_width(static_cast<std::uint64_t>(ago - 1));  // 1: 0, 2: 1, 3 and 4: 2, …
      ++layer.reuse[static_cast<std::size_t>(std::min(bucket, 9))];
      last[e] = now;
    }
  }
  std::ranges::sort(picks);
  double weighted = 0, all = 0;
  for (std::size_t i = 0; i < picks.size(); ++i) {
    weighted += static_cast<double>(i + 1) * static_cast<double>(picks[i]);
    all += static_cast<double>(picks[i]);
  }
  layer.gini = (2 * weighted / all - (experts + 1)) / experts;
  for (int i = 0; i < std::max(1, experts / 10); ++i)
    layer.top_share += picks[picks.size() - 1 - static_cast<std::size_t>(i)];
}

}  // namespace

RoutingStatistics measure_routing(const SynthShape& shape, const PlantedRouting& planted,
                                  std::span<const std::int32_t> stream, int threads) {
  const auto width = static_cast<std::size_t>(shape.width), experts = static_cast<std::size_t>(shape.experts);
  const std::size_t tokens = std::min(stream.size(), kTokens);
  std::vector<float> embeddings(tokens * width);
  std::vector<LayerCounts> layers(static_cast<std::size_t>(shape.layers));
  ThreadPool pool(threads);
  pool.parallel_for(static_cast<int>(tokens), [&](int t, int) {
    const std::span<float> row(&embeddings[static_cast<std::size_t>(t) * width], width);
    planted.embedding(stream[static_cast<std::size_t>(t)], row);
    for (float& x : row) x /= static_cast<float>(PlantedRouting::kEmbeddingRms);  // as the norm does
  });
  pool.parallel_for(shape.layers, [&](int l, int) {
    LayerCounts& layer = layers[static_cast<std::size_t>(l)];
    std::vector<float> router(experts * width);
    planted.router(l, router);
    std::vector<std::pair<float, std::uint16_t>> logits(experts);
    for (std::size_t t = 0; t < tokens; ++t) {
      for (std::size_t e = 0; e < experts; ++e)
        logits[e] = {dot(&router[e * width], &embeddings[t * width], width), static_cast<std::uint16_t>(e)};
      layer.routes.push_back(route_of(logits, shape.top_k));
    }
    count(layer, shape.experts);
  });

  RoutingStatistics s;
  s.tokens = static_cast<int>(tokens);
  const double picks = static_cast<double>(tokens) * shape.top_k * shape.layers;
  for (const LayerCounts& layer : layers) {
    s.gini += layer.gini / shape.layers;
    s.top_10_percent_share += static_cast<double>(layer.top_share) / picks;
    s.next_token_overlap += static_cast<double>(layer.overlap) / picks;
    for (std::size_t i = 0; i < s.reuse.size(); ++i) s.reuse[i] += layer.reuse[i];
  }
  for (std::size_t t = 0; t < std::min(tokens, kGoldenTokens); ++t) {
    s.first.emplace_back();
    for (const LayerCounts& layer : layers) s.first.back().push_back(layer.routes[t]);
  }
  return s;
}

std::string to_json(const RoutingStatistics& s) {
  using Json = nlohmann::ordered_json;
  Json routes = Json::array(), margins = Json::array();
  for (const auto& token : s.first) {
    routes.push_back(Json::array());
    margins.push_back(Json::array());
    for (const Route& route : token) {
      routes.back().push_back(route.experts);
      margins.back().push_back(route.margin);
    }
  }
  const Json json = {{"tokens", s.tokens},
                     {"gini", s.gini},
                     {"top_10_percent_share", s.top_10_percent_share},
                     {"next_token_overlap", s.next_token_overlap},
                     {"reuse_distance_tokens", {"1", "2", "4", "8", "16", "32", "64", "128", "256", "more"}},
                     {"reuse_picks", s.reuse},
                     {"first_routes", std::move(routes)},
                     {"first_margins", std::move(margins)}};
  return json.dump() + "\n";
}

}  // namespace expertscope
