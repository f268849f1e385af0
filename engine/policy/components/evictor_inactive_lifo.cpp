// Expert buffering (reference: policies.md B4). Its cache asks for one expert after the other by number; ours has
// already started what is resident when it plans, so an active resident is never given up before its turn.
#include "engine/policy/components/all.h"
#include "engine/policy/formulas.h"

namespace expertscope::components {
namespace {

class InactiveLifo final : public ScoringEvictor<InactiveLifo> {
 public:
  double keep_score(const PolicyContext& ctx, ExpertId id) const override {
    const ExpertUse& use = ctx.use_of(id);
    const bool active = id.layer == ctx.layer && use.last_use_tick == ctx.tick;
    return inactive_lifo_priority(active, use.last_use_tick, use.load_number);
  }
  bool evicts_demanded() const override { return true; }
};

}  // namespace

ComponentEntry evictor_inactive_lifo() {
  return {.decl = {.kind = ComponentKind::evictor,
                   .name = "inactive-lifo",
                   .help = "Evicts what this layer does not use, longest unused first; then what was loaded last.",
                   .parameters = {}},
          .make = [](const Parameters&) { return std::make_unique<InactiveLifo>(); }};
}

}  // namespace expertscope::components
