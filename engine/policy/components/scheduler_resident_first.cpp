#include <algorithm>

#include "engine/policy/components/all.h"

namespace expertscope::components {
namespace {

class ResidentFirst final : public Scheduler {
 public:
  void order(const PolicyContext&, std::span<DemandView> demands) const override {
    std::stable_sort(demands.begin(), demands.end(),
                     [](const DemandView& a, const DemandView& b) { return a.state < b.state; });
  }
};

}  // namespace

ComponentEntry scheduler_resident_first() {
  return {
      .decl = {.kind = ComponentKind::scheduler,
               .name = "resident-first",
               .help = "Runs what is resident, then what is on its way, then what must be copied, each by router rank.",
               .parameters = {}},
      .make = [](const Parameters&) { return std::make_unique<ResidentFirst>(); }};
}

}  // namespace expertscope::components
