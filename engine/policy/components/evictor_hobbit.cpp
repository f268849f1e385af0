// HOBBIT's four-term priority (reference: policies.md B3, Eq. 3). The paper tuned its weights and does not print them.
#include <algorithm>
#include <span>
#include <vector>

#include "engine/policy/components/all.h"
#include "engine/policy/components/parameters.h"
#include "engine/policy/formulas.h"

namespace expertscope::components {
namespace {

class Hobbit final : public Evictor {
 public:
  explicit Hobbit(const Parameters& p)
      : weights_{.recent = p("recent"),
                 .frequent = p("frequent"),
                 .high_precision = p("high_precision"),
                 .distance = p("distance")} {}

  double keep_score(const PolicyContext& ctx, ExpertId id) const override {
    return priority(hobbit_per_token(weights_, ctx.tokens), ctx.use_of(id), nearness(ctx, id.layer));
  }
  // Of thousands of experts: what tokens and layers have in common is computed once.
  void keep_scores(const PolicyContext& ctx, std::span<const ExpertId> ids, std::span<double> out) const override {
    const HobbitWeights per_token = hobbit_per_token(weights_, ctx.tokens);
    nearness_.clear();
    for (int l = 0; l < ctx.layers; ++l) nearness_.push_back(nearness(ctx, l));
    for (std::size_t i = 0; i < ids.size(); ++i)
      out[i] = priority(per_token, ctx.use_of(ids[i]), nearness_[ids[i].layer]);
  }

 private:
  static double priority(const HobbitWeights& per_token, const ExpertUse& use, double nearness) {
    return hobbit_priority(per_token, use.last_token, use.tokens_in_sequence,
                           static_cast<double>(use.tokens_in_sequence) - use.low_tokens_in_sequence, nearness);
  }
  double nearness(const PolicyContext& ctx, int layer) const {
    return hobbit_nearness(weights_, layer, std::max(ctx.layer, 0), ctx.layers);
  }

  HobbitWeights weights_;
  mutable std::vector<double> nearness_;  // by layer, at the last call
};

}  // namespace

ComponentEntry evictor_hobbit() {
  return {.decl = {.kind = ComponentKind::evictor,
                   .name = "hobbit",
                   .help = "Evicts by last use, uses, full-precision uses and distance of the layer, weighted.",
                   .parameters = {real("recent", 0, 1, 0.25, "",
                                       "Weight of the last use in this sequence; the paper leaves all four open."),
                                  real("frequent", 0, 1, 0.25, "", "Weight of the uses in this sequence."),
                                  real("high_precision", 0, 1, 0.25, "",
                                       "Weight of the uses at full precision, which are dearer to miss."),
                                  real("distance", 0, 1, 0.25, "", "Weight of how soon the expert's layer runs.")}},
          .make = [](const Parameters& p) { return std::make_unique<Hobbit>(p); }};
}

}  // namespace expertscope::components
