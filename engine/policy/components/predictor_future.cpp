// Read-ME (reference: policies.md B17): routes of all layers are known ahead. In replay they are, whatever the model.
#include <algorithm>

#include "engine/assert.h"
#include "engine/policy/components/all.h"
#include "engine/policy/components/parameters.h"

namespace expertscope::components {
namespace {

class FuturePredictor final : public Predictor {
 public:
  explicit FuturePredictor(const Parameters& p) : horizon_(p.integer("horizon")) {}
  bool needs_future() const override { return true; }
  bool predicts_at_step_start() const override { return true; }

  // Also beyond the depth that is asked for, and into the next step: all of it is known.
  void predict(const PolicyContext& ctx, const LayerRoutes&, int depth, std::vector<Candidate>& out) override {
    ES_ASSERT(ctx.future != nullptr, "the future is known in replay alone");
    for (int d = 1; d <= std::max(horizon_, depth); ++d) {
      const int layer = (ctx.layer + d) % ctx.layers;
      for (int e = 0; e < ctx.experts; ++e) {
        const ExpertId id{.layer = static_cast<std::uint16_t>(layer), .expert = static_cast<std::uint16_t>(e)};
        if (ctx.future->next_use(id, ctx.tick) == ctx.tick + static_cast<std::uint64_t>(d))
          out.push_back({.expert = id, .distance = d, .probability = 1});
      }
    }
  }

 private:
  int horizon_;
};

}  // namespace

ComponentEntry predictor_future() {
  return {.decl = {.kind = ComponentKind::predictor,
                   .name = "future",
                   .help = "Knows which experts coming layers want; replay only.",
                   .parameters = {whole("horizon", 1, 256, 4, "layers",
                                        "How many coming layers are told; what is needed later is asked for again.")}},
          .make = [](const Parameters& p) { return std::make_unique<FuturePredictor>(p); }};
}

}  // namespace expertscope::components
