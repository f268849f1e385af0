// HOBBIT's four-term priority (reference: policies.md B3, Eq. 3). The paper tuned its weights and does not print them.
#include <algorithm>

#include "engine/policy/components/all.h"
#include "engine/policy/components/parameters.h"
#include "engine/policy/formulas.h"

namespace expertscope::components {
namespace {

class Hobbit final : public ScoringEvictor<Hobbit> {
 public:
  explicit Hobbit(const Parameters& p)
      : weights_{.recent = p("recent"),
                 .frequent = p("frequent"),
                 .high_precision = p("high_precision"),
                 .distance = p("distance")} {}

  double keep_score(const PolicyContext& ctx, ExpertId id) const override {
    const ExpertUse& use = ctx.use_of(id);
    return hobbit_priority(weights_, use.last_token, use.tokens_in_sequence,
                           static_cast<double>(use.tokens_in_sequence) - use.low_tokens_in_sequence, ctx.tokens,
                           id.layer, std::max(ctx.layer, 0), ctx.layers);
  }

 private:
  HobbitWeights weights_;
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
