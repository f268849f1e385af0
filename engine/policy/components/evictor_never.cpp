#include "engine/policy/components/all.h"

namespace expertscope::components {
namespace {

class Never final : public Evictor {
 public:
  bool evicts() const override { return false; }
  double keep_score(const PolicyContext&, ExpertId) const override { return 0; }
};

}  // namespace

ComponentEntry evictor_never() {
  return {.decl = {.kind = ComponentKind::evictor,
                   .name = "never",
                   .help = "What is resident stays resident.",
                   .parameters = {}},
          .make = [](const Parameters&) { return std::make_unique<Never>(); }};
}

}  // namespace expertscope::components
