// MoE-APEX's "least cost used" (reference: policies.md B3), which replaces HOBBIT's four weights.
#include <algorithm>

#include "engine/policy/components/all.h"
#include "engine/policy/components/parameters.h"
#include "engine/policy/formulas.h"

namespace expertscope::components {
namespace {

class Lcu final : public ScoringEvictor<Lcu> {
 public:
  explicit Lcu(const Parameters& p) : bit_ratio_(p("bit_ratio")) {}

  double keep_score(const PolicyContext& ctx, ExpertId id) const override {
    const ExpertUse& use = ctx.use_of(id);
    // Of the last pass: when its layer ran last, no longer ago than one round of the layers.
    const bool recent =
        use.last_use_tick != 0 && use.last_use_tick + static_cast<std::uint64_t>(ctx.layers) >= ctx.tick;
    return lcu_priority(static_cast<double>(use.tokens_in_sequence) - use.low_tokens_in_sequence,
                        use.low_tokens_in_sequence, bit_ratio_, ctx.tokens, recent, id.layer, std::max(ctx.layer, 0),
                        ctx.layers);
  }

 private:
  double bit_ratio_;
};

}  // namespace

ComponentEntry evictor_lcu() {
  return {.decl = {.kind = ComponentKind::evictor,
                   .name = "lcu",
                   .help = "Evicts by what misses cost so far, and keeps what the last pass used and runs soon.",
                   .parameters = {real("bit_ratio", 0, 1, 0.125, "",
                                       "Cost of a low-precision miss for one at full precision: the ratio of bits.")}},
          .make = [](const Parameters& p) { return std::make_unique<Lcu>(p); }};
}

}  // namespace expertscope::components
