// ExpertFlow's cache engine (reference: policies.md B2): the cache's slots go to coming layers by how many experts each
// is forecast to want, and the likeliest of them are copied, nearest layer first.
#include <algorithm>

#include "engine/policy/components/all.h"
#include "engine/policy/components/parameters.h"
#include "engine/policy/formulas.h"

namespace expertscope::components {
namespace {

class Forecast final : public Prefetcher {
 public:
  explicit Forecast(const Parameters& p)
      : proportional_(p.integer("demand") == 1), theta_(p("theta")), prefill_(p.flag("prefill")) {}
  int depth() const override { return 1; }
  bool cancels_refuted() const override { return true; }

  void choose(const PolicyContext& ctx, std::span<const Candidate>, std::vector<EarlyCopy>& out) override {
    const std::vector<float>& forecast = ctx.state->forecast;
    if (forecast.empty() || (ctx.phase == Phase::prefill && !prefill_)) return;
    wanted_.clear();
    demand_.clear();
    for (int l = ctx.layer + 1; l < ctx.layers; ++l) {
      const std::size_t begin = wanted_.size();
      for (int e = 0; e < ctx.experts; ++e) {
        const ExpertId id{.layer = static_cast<std::uint16_t>(l), .expert = static_cast<std::uint16_t>(e)};
        if (forecast[ctx.index(id)] > theta_) wanted_.push_back(id);
      }
      demand_.push_back(static_cast<int>(wanted_.size() - begin));
      std::stable_sort(wanted_.begin() + static_cast<std::ptrdiff_t>(begin), wanted_.end(),
                       [&](ExpertId a, ExpertId b) { return forecast[ctx.index(a)] > forecast[ctx.index(b)]; });
    }
    const std::vector<int> slots =
        proportional_ ? slots_proportional(demand_, ctx.slots) : slots_layer_first(demand_, ctx.slots);
    std::size_t first = 0;
    for (std::size_t l = 0; l < slots.size(); ++l) {
      for (std::size_t i = 0; i < static_cast<std::size_t>(slots[l]); ++i)
        out.push_back({.expert = wanted_[first + i]});
      first += static_cast<std::size_t>(demand_[l]);
    }
  }

 private:
  bool proportional_;
  double theta_;
  bool prefill_;
  std::vector<ExpertId> wanted_;  // by layer, likeliest first
  std::vector<int> demand_;       // of coming layers, nearest first
};

}  // namespace

ComponentEntry prefetcher_forecast() {
  return {.decl = {.kind = ComponentKind::prefetcher,
                   .name = "forecast",
                   .help = "Copies what the forecast of all coming layers wants, nearest layer first, as slots allow.",
                   .parameters = {real("theta", 0, 1, 0.5, "",
                                       "An expert is wanted when its forecast is above this; the paper does not print "
                                       "its value."),
                                  choice("demand", {"layer_first", "proportional"},
                                         "Slots go to the nearest layer first, or to all in proportion."),
                                  prefill_too()}},
          .make = [](const Parameters& p) { return std::make_unique<Forecast>(p); }};
}

}  // namespace expertscope::components
