#include "engine/policy/components/all.h"

namespace expertscope::components {
namespace {

class All final : public Allocator {
 public:
  bool needs_all_resident() const override { return true; }
  std::vector<ExpertId> initial(const PolicyContext& ctx, const Pools&, std::string&) const override {
    std::vector<ExpertId> all;
    for (int l = 0; l < ctx.layers; ++l) {
      for (int e = 0; e < ctx.experts; ++e)
        all.push_back({.layer = static_cast<std::uint16_t>(l), .expert = static_cast<std::uint16_t>(e)});
    }
    return all;
  }
};

}  // namespace

ComponentEntry allocator_all() {
  return {.decl = {.kind = ComponentKind::allocator,
                   .name = "all",
                   .help = "Places every expert; needs cache ratio 1.",
                   .parameters = {}},
          .make = [](const Parameters&) { return std::make_unique<All>(); }};
}

}  // namespace expertscope::components
