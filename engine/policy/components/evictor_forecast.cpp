// ExpertFlow's cache (reference: policies.md B2): what no coming layer is forecast to want leaves first.
#include <algorithm>

#include "engine/policy/components/all.h"
#include "engine/policy/components/parameters.h"

namespace expertscope::components {
namespace {

class ForecastEvictor final : public ScoringEvictor<ForecastEvictor> {
 public:
  explicit ForecastEvictor(const Parameters& p) : theta_(p("theta")) {}

  // Layers that have run, then what coming ones are not forecast to want, each by last use; then what they are, the
  // farthest first.
  double keep_score(const PolicyContext& ctx, ExpertId id) const override {
    constexpr double kBand = 1e15;
    const ExpertUse& use = ctx.use_of(id);
    const double age = static_cast<double>(std::max(use.last_use_tick, use.loaded_tick));
    const std::vector<float>& forecast = ctx.state->forecast;
    if (forecast.empty() || static_cast<int>(id.layer) <= ctx.layer) return age;
    if (forecast[ctx.index(id)] <= theta_) return kBand + age;
    return 3 * kBand - ctx.layers_ahead(id);
  }

 private:
  double theta_;
};

}  // namespace

ComponentEntry evictor_forecast() {
  return {.decl = {.kind = ComponentKind::evictor,
                   .name = "forecast",
                   .help = "Evicts what no coming layer of this step is forecast to want, then the farthest layer's.",
                   .parameters = {real("theta", 0, 1, 0.5, "",
                                       "An expert is wanted when its forecast is above this; the paper does not print "
                                       "its value.")}},
          .make = [](const Parameters& p) { return std::make_unique<ForecastEvictor>(p); }};
}

}  // namespace expertscope::components
