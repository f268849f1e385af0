#include "engine/policy/components/all.h"

namespace expertscope::components {
namespace {

class Empty final : public Allocator {
 public:
  std::vector<ExpertId> initial(const PolicyContext&, const Pools&, std::string&) const override { return {}; }
};

}  // namespace

ComponentEntry allocator_empty() {
  return {.decl = {.kind = ComponentKind::allocator,
                   .name = "empty",
                   .help = "Nothing is placed at the start.",
                   .parameters = {}},
          .make = [](const Parameters&) { return std::make_unique<Empty>(); }};
}

}  // namespace expertscope::components
