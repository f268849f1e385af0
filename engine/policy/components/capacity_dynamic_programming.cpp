// AdapMoE's division of the cache over layers (reference: policies.md B5): slots go where a token would otherwise wait
// for most copies, given how often it needs one expert alone and how good the prefetch of its layer is.
#include <algorithm>
#include <cmath>

#include "engine/policy/components/all.h"
#include "engine/policy/components/parameters.h"
#include "engine/policy/formulas.h"

namespace expertscope::components {
namespace {

class DynamicProgramming final : public CapacitySplitter {
 public:
  explicit DynamicProgramming(const Parameters& p) : CapacitySplitter(p), threshold_(p("threshold")) {}

  Pools split(const PolicyContext& ctx) const override {
    if (!informed(ctx)) {
      // Without an accuracy every division costs the same: all layers get the same.
      std::vector<int> even(static_cast<std::size_t>(ctx.layers), ctx.slots / ctx.layers);
      for (int l = 0; l < ctx.slots % ctx.layers; ++l) ++even[static_cast<std::size_t>(l)];
      return {.global = false, .slots = even};
    }
    std::vector<std::vector<double>> picked;
    std::vector<double> accuracy;
    for (int l = 0; l < ctx.layers; ++l) {
      picked.push_back(picked_of(ctx, l));
      accuracy.push_back(ctx.prior->lookahead(l));
    }
    return {.global = false, .slots = adapmoe_split(ctx.experts, ctx.slots, picked, accuracy).slots};
  }

  std::string uninformed(const PolicyContext& ctx) const override {
    if (!informed(ctx))
      return "no prior says how good the gates of coming layers are: all layers get the same number of slots";
    if (threshold_ > 0 && !ctx.prior->has_sensitivity())
      return "the prior does not know the layers' sensitivities: slots are divided as if no expert were dropped";
    return "";
  }

 private:
  static bool informed(const PolicyContext& ctx) { return ctx.prior != nullptr && ctx.prior->has_lookahead_recall(); }

  static bool knows_accuracy(const PolicyContext& ctx) {
    return ctx.prior != nullptr && ctx.prior->has_lookahead_recall();
  }
  bool knows_picks(const PolicyContext& ctx) const {
    return threshold_ > 0 && ctx.prior != nullptr && ctx.prior->has_sensitivity();
  }

  // [k - 1]: how often a token takes k experts.
  std::vector<double> picked_of(const PolicyContext& ctx, int layer) const {
    std::vector<double> picked(static_cast<std::size_t>(ctx.top_k), 0);
    picked.back() = 1;
    if (!knows_picks(ctx)) return picked;
    const double drop_below = ctx.prior->drop_threshold(layer, threshold_);
    const std::vector<double> known = ctx.prior->kept_shares(layer, drop_below);
    return known.empty() ? picked : known;
  }

  double threshold_;
};

}  // namespace

ComponentEntry capacity_dynamic_programming() {
  return {
      .decl = {.kind = ComponentKind::capacity,
               .name = "dynamic-programming",
               .help = "Gives slots to the layers whose tokens would wait for most copies, by a prior's statistics.",
               .parameters = {real("threshold", 0, 1, 0.005, "",
                                   "Sensitivity threshold of the gate that drops experts; 0: none are dropped."),
                              balance()}},
      .make = [](const Parameters& p) { return std::make_unique<DynamicProgramming>(p); }};
}

}  // namespace expertscope::components
