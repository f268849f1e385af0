// HOBBIT: a miss whose better ranked companions carry more than T1 of the weight is loaded in low precision (reference:
// policies.md B3, Eq. 2). Of several tokens that want an expert the most demanding decides. Both versions are paid from
// one budget.
#include "engine/policy/components/all.h"
#include "engine/policy/components/parameters.h"
#include "engine/policy/formulas.h"

namespace expertscope::components {
namespace {

class ScoreDriven final : public PrecisionChooser {
 public:
  explicit ScoreDriven(const Parameters& p)
      : low_above_(static_cast<float>(p("low_above"))),
        low_(p.integer("low") == 0 ? Precision::int4 : Precision::int2),
        low_share_(p("low_share")) {}
  Precision low(const PolicyContext&) override { return low_above_ < 1 ? low_ : Precision::native; }
  bool exact() const override { return low_above_ >= 1; }
  double low_share(const PolicyContext&) override { return low_share_; }

  bool wants_low(const PolicyContext&, const LayerRoutes& routes, const Demand& demand) override {
    for (const Arithmetic::ExpertRow& row : demand.rows) {
      const RouteRecord& route = routes.tokens[static_cast<std::size_t>(row.token)];
      if (scores_before(route)[static_cast<std::size_t>(row.rank)] <= low_above_) return false;
    }
    return true;
  }

 private:
  float low_above_;
  Precision low_;
  double low_share_;
};

}  // namespace

ComponentEntry precision_score_driven() {
  return {
      .decl = {.kind = ComponentKind::precision,
               .name = "score-driven",
               .help = "Loads a missing expert in low precision when the better ranked ones carry most of the "
                       "weight (inexact).",
               .parameters = {real("low_above", 0, 1, 0.6, "",
                                   "T1: low precision when the weights of the better ranked experts add up to more; "
                                   "1 is always native."),
                              choice("low", {"int4", "int2"}, "The low precision: int4 beside 16 bits, int2 beside 8."),
                              real("low_share", 0.01, 0.9, 0.25, "",
                                   "Share of the cache's bytes for low precision; the paper says only that it is "
                                   "the smaller part.")}},
      .make = [](const Parameters& p) { return std::make_unique<ScoreDriven>(p); }};
}

}  // namespace expertscope::components
