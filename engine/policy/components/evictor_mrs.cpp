// HybriMoE's "minus recent score" (reference: policies.md B10): router scores of the top-p, smoothed, decide who stays.
#include <algorithm>

#include "engine/policy/components/all.h"
#include "engine/policy/components/parameters.h"
#include "engine/policy/formulas.h"

namespace expertscope::components {
namespace {

class Mrs final : public ScoringEvictor<Mrs> {
 public:
  explicit Mrs(const Parameters& p) : weight_(p("weight")), top_(p.integer("top")) {}

  void routed(const PolicyContext& ctx, const LayerRoutes& routes) override {
    std::vector<double>& score = ctx.state->router_score;
    score.resize(static_cast<std::size_t>(ctx.layers * ctx.experts), 0);
    seen_.assign(static_cast<std::size_t>(ctx.experts), 0);
    const auto top =
        static_cast<std::size_t>(top_ > 0 ? std::min(top_, ctx.experts) : smoothed_top(ctx.top_k, ctx.experts));
    for (const RouteRecord& r : routes.tokens) {
      for (std::size_t i = 0; i < std::min<std::size_t>(top, r.gate_entries); ++i)
        seen_[r.gate[0][i].expert] += r.gate[0][i].prob_q16 / 65535.0;
    }
    // A prompt's many tokens are one request and weigh as much as one token.
    const double tokens = static_cast<double>(std::max<std::size_t>(routes.tokens.size(), 1));
    const auto first = static_cast<std::size_t>(ctx.layer * ctx.experts);
    for (std::size_t e = 0; e < seen_.size(); ++e)
      score[first + e] = smoothed_score(score[first + e], seen_[e] / tokens, seen_[e] > 0, weight_);
  }

  double keep_score(const PolicyContext& ctx, ExpertId id) const override {
    const std::vector<double>& score = ctx.state->router_score;
    return score.empty() ? 0 : score[ctx.index(id)];
  }

 private:
  double weight_;
  int top_;
  std::vector<double> seen_;  // [expert] of the layer in work
};

}  // namespace

ComponentEntry evictor_mrs() {
  return {.decl = {.kind = ComponentKind::evictor,
                   .name = "mrs",
                   .help = "Evicts the expert with the smallest smoothed router score.",
                   .parameters = {real("weight", 0.01, 1, 0.5, "",
                                       "Weight of the newest score; a prompt counts as one score, its tokens' mean."),
                                  whole("top", 0, kGateEntries, 0, "experts",
                                        "So many best scores of a token count; 0: twice the model's top-k, at most the "
                                        "16 that are recorded.")}},
          .make = [](const Parameters& p) { return std::make_unique<Mrs>(p); }};
}

}  // namespace expertscope::components
