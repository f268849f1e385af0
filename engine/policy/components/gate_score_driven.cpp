// HOBBIT: a miss whose better ranked companions carry most of the weight is skipped (reference: policies.md B3, Eq. 2).
// What is resident at native precision always runs. Of several tokens that want an expert the most demanding decides.
#include <algorithm>

#include "engine/policy/components/all.h"
#include "engine/policy/components/parameters.h"
#include "engine/policy/formulas.h"
#include "engine/run/expert_cache.h"

namespace expertscope::components {
namespace {

class ScoreDriven final : public Gate {
 public:
  explicit ScoreDriven(const Parameters& p)
      : skip_above_(static_cast<float>(p("skip_above"))), renormalise_(p.flag("renormalise")) {}
  bool keeps_router() const override { return skip_above_ >= 1; }

  void decide(const PolicyContext& ctx, const LayerRoutes& routes, std::span<RouteRecord> executed) override {
    wanted_.assign(static_cast<std::size_t>(ctx.experts), 0);
    for (const RouteRecord& r : routes.tokens) {
      const std::array<float, kMaxPicks> before = scores_before(r);
      for (std::size_t k = 0; k < r.picks; ++k) {
        if (before[k] <= skip_above_) wanted_[r.expert[k]] = 1;
      }
    }
    for (RouteRecord& r : executed) leave_out(ctx, r);
  }

 private:
  void leave_out(const PolicyContext& ctx, RouteRecord& r) const {
    float all = 0, kept = 0;
    for (std::size_t k = 0; k < r.picks; ++k) {
      all += r.weight[k];
      const ExpertId id{r.layer, r.expert[k]};
      if (wanted_[id.expert] == 0 && ctx.cache->at(id).state != ExpertCache::State::resident) {
        r.expert[k] = kNone16;
        r.weight[k] = 0;
      }
      kept += r.weight[k];
    }
    if (!renormalise_ || kept == all || kept <= 0) return;
    for (std::size_t k = 0; k < r.picks; ++k) r.weight[k] *= all / kept;
  }

  float skip_above_;
  bool renormalise_;
  std::vector<std::uint8_t> wanted_;  // by expert: some token does not skip it
};

}  // namespace

ComponentEntry gate_score_driven() {
  return {.decl = {.kind = ComponentKind::gate,
                   .name = "score-driven",
                   .help = "Skips a missing expert when the better ranked ones carry most of the weight (inexact).",
                   .parameters = {real("skip_above", 0, 1, 0.9, "",
                                       "T2: skipped when the weights of the better ranked experts add up to more; 1 "
                                       "skips nothing."),
                                  flag("renormalise", false,
                                       "After a skip the other weights add up to what all did; the paper does not say, "
                                       "our default leaves them as they are.")}},
          .make = [](const Parameters& p) { return std::make_unique<ScoreDriven>(p); }};
}

}  // namespace expertscope::components
