// Least recently used, by (step, layer) tick: within one request all members share a time stamp (reference: policies.md
// A1). An expert that was loaded and not used yet counts as used when it was loaded, else a prefetch would evict
// itself.
#include <algorithm>

#include "engine/policy/components/all.h"

namespace expertscope::components {
namespace {

class Lru final : public Evictor {
 public:
  double keep_score(const PolicyContext& ctx, ExpertId id) const override {
    const ExpertUse& use = ctx.use_of(id);
    return static_cast<double>(std::max(use.last_use_tick, use.loaded_tick));
  }
};

}  // namespace

ComponentEntry evictor_lru() {
  return {.decl = {.kind = ComponentKind::evictor,
                   .name = "lru",
                   .help = "Evicts the expert that was used longest ago.",
                   .parameters = {}},
          .make = [](const Parameters&) { return std::make_unique<Lru>(); }};
}

}  // namespace expertscope::components
