#include "engine/policy/components/all.h"

namespace expertscope::components {
namespace {

class Global final : public CapacitySplitter {
 public:
  Pools split(const PolicyContext& ctx) const override { return {.global = true, .slots = {ctx.slots}}; }
};

}  // namespace

ComponentEntry capacity_global() {
  return {.decl = {.kind = ComponentKind::capacity,
                   .name = "global",
                   .help = "One pool of slots for the experts of all layers.",
                   .parameters = {}},
          .make = [](const Parameters&) { return std::make_unique<Global>(); }};
}

}  // namespace expertscope::components
