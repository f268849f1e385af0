#include "engine/policy/components/all.h"

namespace expertscope::components {
namespace {

class None final : public Prefetcher {
 public:
  void choose(const PolicyContext&, std::span<const Candidate>, std::vector<EarlyCopy>&) override {}
};

}  // namespace

ComponentEntry prefetcher_none() {
  return {
      .decl = {.kind = ComponentKind::prefetcher, .name = "none", .help = "Copies nothing early.", .parameters = {}},
      .make = [](const Parameters&) { return std::make_unique<None>(); }};
}

}  // namespace expertscope::components
