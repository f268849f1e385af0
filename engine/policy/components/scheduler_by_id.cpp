// Experts one after the other by number, as systems do that loop over a layer's experts (reference: policies.md B4,
// B7).
#include <algorithm>

#include "engine/policy/components/all.h"
#include "engine/policy/components/parameters.h"

namespace expertscope::components {
namespace {

class ById final : public Scheduler {
 public:
  explicit ById(const Parameters& p) : hits_first_(p.flag("hits_first")) {}
  void order(const PolicyContext&, std::span<DemandView> demands) const override {
    std::ranges::stable_sort(demands, [&](const DemandView& a, const DemandView& b) {
      if (hits_first_ && a.state != b.state) return a.state < b.state;
      return a.demand->expert < b.demand->expert;
    });
  }

 private:
  bool hits_first_;
};

}  // namespace

ComponentEntry scheduler_by_id() {
  return {.decl = {.kind = ComponentKind::scheduler,
                   .name = "by-id",
                   .help = "Runs a layer's experts in the order of their numbers.",
                   .parameters = {flag("hits_first", false, "What is resident goes first, each part by number.")}},
          .make = [](const Parameters& p) { return std::make_unique<ById>(p); }};
}

}  // namespace expertscope::components
