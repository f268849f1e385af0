// DAOP at decode: what the next layer executes is decided in this layer, by the next layer's gate on this layer's
// input; its own router is not asked (reference: policies.md B1). Graceful degradation: when too many of the predicted
// experts would run on the CPU, the worst ranked of them give way to the most probable resident ones.
#include <algorithm>

#include "engine/policy/components/all.h"
#include "engine/policy/components/parameters.h"
#include "engine/run/expert_cache.h"

namespace expertscope::components {
namespace {

class PredictedGate final : public Gate {
 public:
  explicit PredictedGate(const Parameters& p)
      : first_layer_(p.integer("first_layer")), max_cpu_(p.integer("max_cpu")), renormalise_(p.flag("renormalise")) {}
  bool keeps_router() const override { return false; }
  int lookahead() const override { return 1; }

  bool decides_next(const PolicyContext& ctx) const override {
    return ctx.phase == Phase::decode && ctx.layer + 1 >= first_layer_;
  }

  void decide_next(const PolicyContext& ctx, const LayerRoutes& routes, std::span<RouteRecord> next) override {
    for (std::size_t t = 0; t < next.size(); ++t) decide_token(ctx, routes.tokens[t], next[t]);
  }

 private:
  static bool resident(const PolicyContext& ctx, const RouteRecord& next, std::uint16_t expert) {
    return ctx.cache->at({next.layer, expert}).state == ExpertCache::State::resident;
  }

  void decide_token(const PolicyContext& ctx, const RouteRecord& seen, RouteRecord& next) const {
    const std::span<const GateEntry> gate(seen.gate[1].data(), seen.gate_entries);
    std::array<float, kMaxPicks> probability{};
    int on_cpu = 0;
    for (std::size_t k = 0; k < next.picks; ++k) {
      next.expert[k] = gate[k].expert;
      probability[k] = static_cast<float>(gate[k].prob_q16);
      on_cpu += resident(ctx, next, gate[k].expert) ? 0 : 1;
    }
    // Worst ranked first; substitutes most probable first.
    std::size_t substitute = next.picks;
    for (std::size_t k = next.picks; k-- > 0 && on_cpu > max_cpu_;) {
      if (resident(ctx, next, next.expert[k])) continue;
      while (substitute < gate.size() && !resident(ctx, next, gate[substitute].expert)) ++substitute;
      if (substitute == gate.size()) break;
      next.expert[k] = gate[substitute].expert;
      probability[k] = static_cast<float>(gate[substitute].prob_q16);
      ++substitute, --on_cpu;
    }
    float sum = 0;
    for (std::size_t k = 0; k < next.picks; ++k) sum += probability[k];
    const float whole = renormalise_ ? std::max(sum, 1.0f) : 65535.0f;
    for (std::size_t k = 0; k < next.picks; ++k) next.weight[k] = probability[k] / whole;
  }

  int first_layer_, max_cpu_;
  bool renormalise_;
};

}  // namespace

ComponentEntry gate_predicted() {
  return {
      .decl = {.kind = ComponentKind::gate,
               .name = "predicted",
               .help = "At decode, executes what the layer before predicted instead of the router's word (inexact).",
               .parameters = {whole("first_layer", 1, 1024, 5, "layers",
                                    "The first layer that is predicted; those before ask their router."),
                              whole("max_cpu", 0, kMaxPicks, 1, "experts",
                                    "Predicted experts of a token and layer that may run on the CPU; more give way "
                                    "to resident ones (the paper's case is top-2: at most one)."),
                              flag("renormalise", true,
                                   "Weights of the predicted experts add up to 1, as the paper's Mixtral; off: the "
                                   "gate's probabilities as they are.")}},
      .make = [](const Parameters& p) { return std::make_unique<PredictedGate>(p); }};
}

}  // namespace expertscope::components
