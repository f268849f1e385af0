#include <algorithm>

#include "engine/policy/components/all.h"

namespace expertscope::components {
namespace {

class Cpu final : public Placer {
 public:
  void place(const PolicyContext&, std::span<const DemandView>, std::span<Placement> out) override {
    std::ranges::replace(out, Placement::fetch, Placement::cpu);
  }
};

}  // namespace

ComponentEntry placer_cpu() {
  return {.decl = {.kind = ComponentKind::placer,
                   .name = "cpu",
                   .help = "Runs a missing expert on the CPU, from host memory.",
                   .parameters = {}},
          .make = [](const Parameters&) { return std::make_unique<Cpu>(); }};
}

}  // namespace expertscope::components
