// MoE-Infinity (reference: policies.md B8, Alg. 1): keeps what the predicted activation matrix calls likely, early
// layers first.
#include "engine/policy/components/all.h"
#include "engine/policy/components/parameters.h"
#include "engine/policy/formulas.h"

namespace expertscope::components {
namespace {

class ActivationEvictor final : public ScoringEvictor<ActivationEvictor> {
 public:
  explicit ActivationEvictor(const Parameters& p) : code_(p.integer("variant") == 1) {}

  double keep_score(const PolicyContext& ctx, ExpertId id) const override {
    if (code_) return static_cast<double>(ctx.use_of(id).uses);
    const std::vector<float>& forecast = ctx.state->forecast;
    const double share = forecast.empty() ? 0 : forecast[ctx.index(id)] / static_cast<double>(ctx.top_k);
    return activation_priority(share, id.layer, ctx.layers);
  }

 private:
  bool code_;
};

}  // namespace

ComponentEntry evictor_activation_matrix() {
  return {.decl = {.kind = ComponentKind::evictor,
                   .name = "activation-matrix",
                   .help = "Evicts what the predicted activation matrix calls unlikely, late layers first.",
                   .parameters = {choice("variant", {"paper", "code"},
                                         "The forecast of predictor activation-matrix, or the code's count of uses "
                                         "since the session began.")}},
          .make = [](const Parameters& p) { return std::make_unique<ActivationEvictor>(p); }};
}

}  // namespace expertscope::components
