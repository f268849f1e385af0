#include "engine/learn/sensitivity.h"

#include "engine/learn/text_loss.h"

namespace expertscope {
namespace {

// Drops the lower half of a token's ranks; returns the share of weight that went.
double drop_lower_half(RouteRecord& route) {
  const std::size_t kept = (route.picks + 1U) / 2;
  float all = 0, stays = 0;
  for (std::size_t r = 0; r < route.picks; ++r) all += route.weight[r];
  for (std::size_t r = 0; r < kept; ++r) stays += route.weight[r];
  if (!(stays > 0)) return 0;
  for (std::size_t r = 0; r < route.picks; ++r) route.weight[r] = r < kept ? route.weight[r] * (all / stays) : 0;
  return static_cast<double>((all - stays) / all);
}

}  // namespace

Sensitivities measure_sensitivities(const Model& model, ThreadPool& pool,
                                    std::span<const std::vector<std::int32_t>> texts, const LearnProgress& progress) {
  const ModelDescription& d = model.description();
  TextLoss loss(model, pool, texts, 1 + d.layers, progress);
  if (loss.predicted() == 0 || d.router.top_k < 2) return {};
  Sensitivities out{.loss = 0, .tokens = loss.predicted(), .layers = {}};
  out.loss = loss.measure();
  for (int layer = 0; layer < d.layers; ++layer) {
    double squares = 0;
    std::int64_t tokens = 0;
    loss.pass().set_watch([&](int l, std::span<RouteRecord> routes) {
      if (l != layer) return;
      for (RouteRecord& route : routes) {
        const double dropped = drop_lower_half(route);
        squares += dropped * dropped;
        ++tokens;
      }
    });
    const double rise = loss.measure() - out.loss;
    out.layers.push_back({.loss_rise = rise, .mean_square = squares / static_cast<double>(tokens)});
  }
  return out;
}

}  // namespace expertscope
