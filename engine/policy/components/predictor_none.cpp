#include "engine/policy/components/all.h"

namespace expertscope::components {
namespace {

class None final : public Predictor {
 public:
  void predict(const PolicyContext&, const LayerRoutes&, int, std::vector<Candidate>&) override {}
};

}  // namespace

ComponentEntry predictor_none() {
  return {.decl = {.kind = ComponentKind::predictor, .name = "none", .help = "Predicts nothing.", .parameters = {}},
          .make = [](const Parameters&) { return std::make_unique<None>(); }};
}

}  // namespace expertscope::components
