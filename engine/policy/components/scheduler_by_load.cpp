// Resident experts first and those with most tokens first (reference: policies.md B10).
#include <algorithm>

#include "engine/policy/components/all.h"

namespace expertscope::components {
namespace {

class ByLoad final : public Scheduler {
 public:
  void order(const PolicyContext&, std::span<DemandView> demands) const override {
    std::ranges::stable_sort(demands, [](const DemandView& a, const DemandView& b) {
      if (a.state != b.state) return a.state < b.state;
      return a.demand->computed_rows() > b.demand->computed_rows();
    });
  }
};

}  // namespace

ComponentEntry scheduler_by_load() {
  return {.decl = {.kind = ComponentKind::scheduler,
                   .name = "by-load",
                   .help = "Runs what is resident, then the rest, each by most tokens.",
                   .parameters = {}},
          .make = [](const Parameters&) { return std::make_unique<ByLoad>(); }};
}

}  // namespace expertscope::components
