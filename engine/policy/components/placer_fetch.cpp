#include "engine/policy/components/all.h"

namespace expertscope::components {
namespace {

class Fetch final : public Placer {
 public:
  void place(const PolicyContext&, std::span<const DemandView>, std::span<Placement>) override {}
};

}  // namespace

ComponentEntry placer_fetch() {
  return {.decl = {.kind = ComponentKind::placer,
                   .name = "fetch",
                   .help = "Copies a missing expert into a slot, or through staging when no slot can be had.",
                   .parameters = {}},
          .make = [](const Parameters&) { return std::make_unique<Fetch>(); }};
}

}  // namespace expertscope::components
