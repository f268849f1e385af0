#include <algorithm>
#include <numeric>

#include "engine/policy/components/all.h"

namespace expertscope::components {
namespace {

class Popular final : public Allocator {
 public:
  // All experts: what the pools do not hold is left out by the executor.
  std::vector<ExpertId> initial(const PolicyContext& ctx, const Pools& pools, std::string& note) const override {
    if (ctx.prior == nullptr)
      note =
          "no prior was given: the first experts of each layer are pinned instead of the most popular ones; give "
          "--prior";
    std::vector<ExpertId> all;
    for (int l = 0; l < ctx.layers; ++l) {
      std::vector<std::uint16_t> order(static_cast<std::size_t>(ctx.experts));
      std::iota(order.begin(), order.end(), std::uint16_t{0});
      if (ctx.prior != nullptr) {
        const std::vector<double>& share = ctx.prior->popularity[static_cast<std::size_t>(l)];
        std::stable_sort(order.begin(), order.end(),
                         [&](std::uint16_t a, std::uint16_t b) { return share[a] > share[b]; });
      }
      for (std::uint16_t e : order) all.push_back({.layer = static_cast<std::uint16_t>(l), .expert = e});
    }
    if (pools.global) order_globally(ctx, all);
    return all;
  }

 private:
  // The most popular of all layers first; without a prior the first experts of every layer in turn.
  static void order_globally(const PolicyContext& ctx, std::vector<ExpertId>& all) {
    const auto share = [&](ExpertId id) {
      return ctx.prior == nullptr ? -static_cast<double>(id.expert) : ctx.prior->popularity[id.layer][id.expert];
    };
    std::stable_sort(all.begin(), all.end(), [&](ExpertId a, ExpertId b) { return share(a) > share(b); });
  }
};

}  // namespace

ComponentEntry allocator_popular() {
  return {.decl = {.kind = ComponentKind::allocator,
                   .name = "popular",
                   .help = "Places the most popular experts of a prior; without one the first of each layer.",
                   .parameters = {}},
          .make = [](const Parameters&) { return std::make_unique<Popular>(); }};
}

}  // namespace expertscope::components
