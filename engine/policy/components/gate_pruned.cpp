// Experts left out for good, as SEER-MoE prunes them by how much a prior's texts used them; and experts that compute
// nothing, as MoE++ has them (reference: policies.md B17). An option of every preset: gate=pruned.
#include <algorithm>
#include <numeric>

#include "engine/policy/components/all.h"
#include "engine/policy/components/parameters.h"

namespace expertscope::components {
namespace {

class Pruned final : public Gate {
 public:
  explicit Pruned(const Parameters& p)
      : share_(p("share")), zero_below_(static_cast<float>(p("zero_below"))), renormalise_(p.flag("renormalise")) {}
  bool keeps_router() const override { return share_ <= 0 && zero_below_ <= 0; }
  std::string uninformed(const PolicyContext& ctx) const override {
    if (ctx.prior != nullptr || share_ <= 0) return {};
    return "no prior was given: no expert is pruned; give --prior";
  }

  void decide(const PolicyContext& ctx, const LayerRoutes&, std::span<RouteRecord> executed) override {
    if (masked_.empty()) choose(ctx);
    for (RouteRecord& r : executed) {
      float all = 0, kept = 0;
      for (std::size_t k = 0; k < r.picks; ++k) {
        all += r.weight[k];
        // A zero expert keeps its place in the sum and adds nothing, so nothing is renormalised for it.
        const bool zero = k > 0 && r.weight[k] < zero_below_;
        if (masked_[ctx.index({r.layer, r.expert[k]})] != 0 || zero) {
          if (zero) all -= r.weight[k];
          r.expert[k] = kNone16;
          r.weight[k] = 0;
        }
        kept += r.weight[k];
      }
      if (!renormalise_ || kept == all || kept <= 0) continue;
      for (std::size_t k = 0; k < r.picks; ++k) r.weight[k] *= all / kept;
    }
  }

 private:
  // The least used of all layers, but never the last top-k of a layer.
  void choose(const PolicyContext& ctx) {
    masked_.assign(static_cast<std::size_t>(ctx.layers * ctx.experts), 0);
    if (ctx.prior == nullptr) return;
    std::vector<ExpertId> order;
    for (int l = 0; l < ctx.layers; ++l) {
      for (int e = 0; e < ctx.experts; ++e)
        order.push_back({static_cast<std::uint16_t>(l), static_cast<std::uint16_t>(e)});
    }
    std::ranges::stable_sort(order, [&](ExpertId a, ExpertId b) {
      return ctx.prior->popularity[a.layer][a.expert] < ctx.prior->popularity[b.layer][b.expert];
    });
    std::vector<int> left(static_cast<std::size_t>(ctx.layers), ctx.experts);
    auto to_prune = static_cast<int>(share_ * ctx.layers * ctx.experts);
    for (ExpertId id : order) {
      if (to_prune == 0) break;
      if (left[id.layer] <= ctx.top_k) continue;
      masked_[ctx.index(id)] = 1;
      --left[id.layer], --to_prune;
    }
  }

  double share_;
  float zero_below_;
  bool renormalise_;
  std::vector<std::uint8_t> masked_;
};

}  // namespace

ComponentEntry gate_pruned() {
  return {.decl = {.kind = ComponentKind::gate,
                   .name = "pruned",
                   .help = "Leaves out the experts that a prior's texts used least, and weak choices (inexact).",
                   .parameters = {real("share", 0, 0.9, 0.25, "",
                                       "Share of all experts that is left out; SEER-MoE's "
                                       "Mixtral keeps three quarters."),
                                  real("zero_below", 0, 1, 0, "",
                                       "Choices from the second on with a smaller weight go to a zero expert, which "
                                       "computes nothing (MoE++)."),
                                  flag("renormalise", true, "The weights of a token's other experts make up for it.")}},
          .make = [](const Parameters& p) { return std::make_unique<Pruned>(p); }};
}

}  // namespace expertscope::components
