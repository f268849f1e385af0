#include "engine/policy/components/all.h"
#include "engine/policy/components/parameters.h"

namespace expertscope::components {
namespace {

class Global final : public CapacitySplitter {
 public:
  using CapacitySplitter::CapacitySplitter;
  Pools split(const PolicyContext& ctx) const override { return {.global = true, .slots = {ctx.slots}}; }
};

}  // namespace

ComponentEntry capacity_global() {
  return {.decl = {.kind = ComponentKind::capacity,
                   .name = "global",
                   .help = "One pool of slots for the experts of all layers.",
                   .parameters = {balance()}},
          .make = [](const Parameters& p) { return std::make_unique<Global>(p); }};
}

}  // namespace expertscope::components
