#include "engine/learn/sensitivity.h"

#include "engine/error.h"
#include "engine/learn/forward_pass.h"
#include "engine/model/likelihood.h"

namespace expertscope {
namespace {

constexpr int kChunk = 128;  // tokens of a step; all of their logits are wanted

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
  ForwardPass pass(model, pool, kChunk, 1);
  Sensitivities out;
  std::int64_t all = 0, done = 0;
  for (const std::vector<std::int32_t>& ids : texts) {
    all += static_cast<std::int64_t>(ids.size()) * (1 + d.layers);
    if (!ids.empty()) out.tokens += static_cast<std::int64_t>(ids.size()) - 1;
  }
  if (out.tokens == 0 || d.router.top_k < 2) return {};
  const auto loss_of = [&] {
    double sum = 0;
    for (const std::vector<std::int32_t>& ids : texts) {
      pass.reset_sequence(0);
      pass.forward(0, ids, true, [&](std::size_t first, std::size_t count) {
        for (std::size_t i = 0; i < count && first + i + 1 < ids.size(); ++i)
          sum += negative_log_likelihood(pass.logits(static_cast<int>(i)), ids[first + i + 1]);
        done += static_cast<std::int64_t>(count);
        if (progress && !progress(done, all)) throw RunError("learning was interrupted");
      });
    }
    return sum / static_cast<double>(out.tokens);
  };
  out.loss = loss_of();
  for (int layer = 0; layer < d.layers; ++layer) {
    double squares = 0;
    std::int64_t tokens = 0;
    pass.set_watch([&](int l, std::span<RouteRecord> routes) {
      if (l != layer) return;
      for (RouteRecord& route : routes) {
        const double dropped = drop_lower_half(route);
        squares += dropped * dropped;
        ++tokens;
      }
    });
    const double rise = loss_of() - out.loss;
    out.layers.push_back({.loss_rise = rise, .mean_square = squares / static_cast<double>(tokens)});
  }
  return out;
}

}  // namespace expertscope
