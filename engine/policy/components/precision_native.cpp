#include "engine/policy/components/all.h"

namespace expertscope::components {
namespace {

class Native final : public PrecisionChooser {};

}  // namespace

ComponentEntry precision_native() {
  return {.decl = {.kind = ComponentKind::precision,
                   .name = "native",
                   .help = "Every expert in the precision of the file.",
                   .parameters = {}},
          .make = [](const Parameters&) { return std::make_unique<Native>(); }};
}

}  // namespace expertscope::components
