// EdgeMoE (reference: policies.md B6). The printed formula keeps what just ran and evicts what runs next, against the
// paper's own text; both are here.
#include <algorithm>

#include "engine/policy/components/all.h"
#include "engine/policy/components/parameters.h"
#include "engine/policy/formulas.h"

namespace expertscope::components {
namespace {

class Edgemoe final : public ScoringEvictor<Edgemoe> {
 public:
  explicit Edgemoe(const Parameters& p) : printed_(p.integer("variant") == 1) {}

  double keep_score(const PolicyContext& ctx, ExpertId id) const override {
    const int current = std::max(ctx.layer, 0);
    const double f = frequency(ctx, id);
    return printed_ ? -edgemoe_printed(f, id.layer, current, ctx.layers)
                    : -edgemoe_text(f, id.layer, current, ctx.layers);
  }
  std::string uninformed(const PolicyContext& ctx) const override {
    return ctx.prior != nullptr ? "" : "no prior was given: experts' frequencies are those of this session so far";
  }

 private:
  static double frequency(const PolicyContext& ctx, ExpertId id) {
    return ctx.prior != nullptr ? ctx.prior->popularity[id.layer][id.expert]
                                : static_cast<double>(ctx.use_of(id).uses) / static_cast<double>(ctx.tick + 1);
  }

  bool printed_;
};

}  // namespace

ComponentEntry evictor_edgemoe() {
  return {.decl = {.kind = ComponentKind::evictor,
                   .name = "edgemoe",
                   .help = "Evicts what is seldom used and whose layer is far, by frequencies known beforehand.",
                   .parameters = {choice("variant", {"text", "printed"},
                                         "The rule as described, or as its formula is printed, which evicts the next "
                                         "layer first.")}},
          .make = [](const Parameters& p) { return std::make_unique<Edgemoe>(p); }};
}

}  // namespace expertscope::components
