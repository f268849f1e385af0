// AdapMoE: ranks from the second on whose renormalised weight is below the layer's threshold sqrt(T / w_l) are dropped,
// lowest first, and the rest is renormalised (reference: policies.md B5; for top-k above 2 our generalisation).
#include <cmath>
#include <limits>

#include "engine/policy/components/all.h"
#include "engine/policy/components/parameters.h"

namespace expertscope::components {
namespace {

class Sensitivity final : public Gate {
 public:
  explicit Sensitivity(const Parameters& p) : tolerance_(p("tolerance")) {}
  bool keeps_router() const override { return tolerance_ <= 0; }
  std::string uninformed(const PolicyContext& ctx) const override {
    if (ctx.prior != nullptr && ctx.prior->has_sensitivity()) return {};
    return "no prior with sensitivities was given: no expert is dropped; give --prior";
  }

  void decide(const PolicyContext& ctx, const LayerRoutes&, std::span<RouteRecord> executed) override {
    if (ctx.prior == nullptr || !ctx.prior->has_sensitivity()) return;
    const auto threshold = static_cast<float>(ctx.prior->drop_threshold(ctx.layer, tolerance_));
    for (RouteRecord& r : executed) {
      float all = 0, kept = 0;
      for (std::size_t k = 0; k < r.picks; ++k) all += r.weight[k];
      for (std::size_t k = 0; k < r.picks; ++k) {
        if (k > 0 && r.weight[k] < threshold * all) {
          r.expert[k] = kNone16;
          r.weight[k] = 0;
        }
        kept += r.weight[k];
      }
      if (kept == all) continue;
      for (std::size_t k = 0; k < r.picks; ++k) r.weight[k] *= all / kept;
    }
  }

 private:
  double tolerance_;
};

}  // namespace

ComponentEntry gate_sensitivity() {
  return {.decl = {.kind = ComponentKind::gate,
                   .name = "sensitivity",
                   .help = "Drops lower ranked experts where the layer is insensitive to it (inexact).",
                   .parameters = {real("tolerance", 0, 1, 0.005, "nats",
                                       "T: the loss that dropping may cost a layer; the paper sweeps 0 to 0.013; 0 "
                                       "drops nothing.")}},
          .make = [](const Parameters& p) { return std::make_unique<Sensitivity>(p); }};
}

}  // namespace expertscope::components
