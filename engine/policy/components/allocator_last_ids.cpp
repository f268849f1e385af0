// Mixtral-offloading and AdapMoE (reference: policies.md B7, B5) start with the last experts of every layer.
#include <algorithm>

#include "engine/policy/components/all.h"

namespace expertscope::components {
namespace {

class LastIds final : public Allocator {
 public:
  std::vector<ExpertId> initial(const PolicyContext& ctx, const Pools& pools, std::string&) const override {
    std::vector<ExpertId> placed;
    for (int l = 0; l < ctx.layers; ++l) {
      const int even_share = ctx.slots / ctx.layers + (l < ctx.slots % ctx.layers ? 1 : 0);
      const int slots = pools.global ? even_share : pools.slots[static_cast<std::size_t>(l)];
      for (int e = std::max(0, ctx.experts - slots); e < ctx.experts; ++e)
        placed.push_back({.layer = static_cast<std::uint16_t>(l), .expert = static_cast<std::uint16_t>(e)});
    }
    return placed;
  }
};

}  // namespace

ComponentEntry allocator_last_ids() {
  return {.decl = {.kind = ComponentKind::allocator,
                   .name = "last-ids",
                   .help = "Places the experts with the highest numbers of every layer.",
                   .parameters = {}},
          .make = [](const Parameters&) { return std::make_unique<LastIds>(); }};
}

}  // namespace expertscope::components
