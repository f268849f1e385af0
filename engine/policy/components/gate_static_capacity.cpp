// The gating that Towards MoE Deployment replaces: every expert has room for the same number of a step's tokens,
// computes all of it, given so many tokens or not, and tokens beyond it are dropped (reference: policies.md B4).
// Dynamic gating, exact batches, is what `router` does.
#include <cmath>

#include "engine/policy/components/all.h"
#include "engine/policy/components/parameters.h"

namespace expertscope::components {
namespace {

class StaticCapacity final : public Gate {
 public:
  explicit StaticCapacity(const Parameters& p) : factor_(p("factor")) {}
  bool keeps_router() const override { return false; }
  int padded_rows(std::size_t tokens) const override {
    return static_cast<int>(std::ceil(factor_ * static_cast<double>(tokens)));
  }

  void decide(const PolicyContext& ctx, const LayerRoutes& routes, std::span<RouteRecord> executed) override {
    const int room = padded_rows(routes.tokens.size());
    taken_.assign(static_cast<std::size_t>(ctx.experts), 0);
    // All first choices before all second ones, tokens in order: who comes late is dropped.
    for (std::size_t k = 0; k < kMaxPicks; ++k) {
      for (RouteRecord& r : executed) {
        if (k >= r.picks) continue;
        if (++taken_[r.expert[k]] <= room) continue;
        r.expert[k] = kNone16;
        r.weight[k] = 0;
      }
    }
  }

 private:
  double factor_;
  std::vector<int> taken_;
};

}  // namespace

ComponentEntry gate_static_capacity() {
  return {
      .decl = {.kind = ComponentKind::gate,
               .name = "static-capacity",
               .help =
                   "Gives every expert room for the same number of tokens, pads what is not filled and drops the rest "
                   "(inexact).",
               .parameters = {real("factor", 0.001, 1, 1, "",
                                   "Room of an expert as a share of the step's tokens: the paper's translation "
                                   "model has 1, its language model 0.05.")}},
      .make = [](const Parameters& p) { return std::make_unique<StaticCapacity>(p); }};
}

}  // namespace expertscope::components
