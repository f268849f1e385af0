#include "engine/policy/components/all.h"

namespace expertscope::components {
namespace {

class Router final : public Gate {
 public:
  bool keeps_router() const override { return true; }
};

}  // namespace

ComponentEntry gate_router() {
  return {.decl = {.kind = ComponentKind::gate,
                   .name = "router",
                   .help = "Executes exactly what the router chose.",
                   .parameters = {}},
          .make = [](const Parameters&) { return std::make_unique<Router>(); }};
}

}  // namespace expertscope::components
