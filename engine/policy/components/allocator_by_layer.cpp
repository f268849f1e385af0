// llama.cpp's --n-cpu-moe (reference: policies.md A2): whole layers are resident or not.
#include "engine/policy/components/all.h"
#include "engine/policy/components/parameters.h"

namespace expertscope::components {
namespace {

class ByLayer final : public Allocator {
 public:
  explicit ByLayer(const Parameters& p) : last_on_host_(p.integer("host") == 1), partial_(p.flag("partial")) {}

  std::vector<ExpertId> initial(const PolicyContext& ctx, const Pools& pools, std::string& note) const override {
    int left = pools.global ? pools.slots[0] : ctx.slots;
    if (!pools.global) note = "by-layer fills whole layers and needs capacity=global; every layer has slots of its own";
    std::vector<ExpertId> placed;
    for (int i = 0; i < ctx.layers && (left >= ctx.experts || (partial_ && left > 0)); ++i) {
      const int layer = last_on_host_ ? i : ctx.layers - 1 - i;
      for (int e = 0; e < ctx.experts && left > 0; ++e, --left)
        placed.push_back({.layer = static_cast<std::uint16_t>(layer), .expert = static_cast<std::uint16_t>(e)});
    }
    return placed;
  }

 private:
  bool last_on_host_, partial_;
};

}  // namespace

ComponentEntry allocator_by_layer() {
  return {
      .decl = {.kind = ComponentKind::allocator,
               .name = "by-layer",
               .help = "Places the experts of as many whole layers as fit; those of the others stay in host memory.",
               .parameters = {choice("host", {"first", "last"},
                                     "Which layers stay in host memory: the first (llama.cpp) or the last "
                                     "(ik_llama.cpp)."),
                              flag("partial", false, "Fill the slots that are left with a part of one more layer.")}},
      .make = [](const Parameters& p) { return std::make_unique<ByLayer>(p); }};
}

}  // namespace expertscope::components
