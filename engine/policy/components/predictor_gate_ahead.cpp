// "gate l + d on x_l": the router of a coming layer applied to this layer's gate input (reference: policies.md B7, O4).
#include <algorithm>

#include "engine/policy/components/all.h"
#include "engine/policy/components/candidates.h"

namespace expertscope::components {
namespace {

class GateAhead final : public Predictor {
 public:
  explicit GateAhead(const Parameters& p) : width_(p.integer("width")) {}
  bool uses_gates() const override { return true; }

  void predict(const PolicyContext& ctx, const LayerRoutes& routes, int depth, std::vector<Candidate>& out) override {
    const int width = width_ > 0 ? width_ : ctx.top_k;
    for (int d = 1; d <= depth && ctx.layer + d < ctx.layers; ++d) {
      sum_.assign(static_cast<std::size_t>(ctx.experts), 0);
      for (const RouteRecord& r : routes.tokens) {
        if (d >= r.gates) return;  // not recorded
        const auto kept = std::min<std::size_t>(static_cast<std::size_t>(width), r.gate_entries);
        for (std::size_t i = 0; i < kept; ++i) {
          const GateEntry& entry = r.gate[static_cast<std::size_t>(d)][i];
          sum_[entry.expert] += static_cast<float>(entry.prob_q16) / 65535.0F;
        }
      }
      add_likeliest(sum_, ctx.layer + d, d, sum_.size(), out);
    }
  }

 private:
  int width_;
  std::vector<float> sum_;
};

}  // namespace

ComponentEntry predictor_gate_ahead() {
  return {.decl = {.kind = ComponentKind::predictor,
                   .name = "gate-ahead",
                   .help = "Applies the routers of coming layers to this layer's gate input.",
                   .parameters = {{.name = "width",
                                   .type = ParameterType::integer,
                                   .min = 0,
                                   .max = kGateEntries,
                                   .default_value = 0,
                                   .unit = "experts",
                                   .help = "Experts predicted for each token and coming layer; 0 is the model's top-k.",
                                   .choices = {}}}},
          .make = [](const Parameters& p) { return std::make_unique<GateAhead>(p); }};
}

}  // namespace expertscope::components
