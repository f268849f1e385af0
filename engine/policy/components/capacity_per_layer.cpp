#include "engine/policy/components/all.h"
#include "engine/policy/components/parameters.h"

namespace expertscope::components {
namespace {

class PerLayer final : public CapacitySplitter {
 public:
  using CapacitySplitter::CapacitySplitter;
  Pools split(const PolicyContext& ctx) const override {
    Pools pools{.global = false,
                .slots = std::vector<int>(static_cast<std::size_t>(ctx.layers), ctx.slots / ctx.layers)};
    for (int l = 0; l < ctx.slots % ctx.layers; ++l) ++pools.slots[static_cast<std::size_t>(l)];
    return pools;
  }
};

}  // namespace

ComponentEntry capacity_per_layer() {
  return {.decl = {.kind = ComponentKind::capacity,
                   .name = "per-layer",
                   .help = "Every layer has the same number of slots; the remainder goes to the first layers.",
                   .parameters = {balance()}},
          .make = [](const Parameters& p) { return std::make_unique<PerLayer>(p); }};
}

}  // namespace expertscope::components
