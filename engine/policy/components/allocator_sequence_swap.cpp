// DAOP: starts with the most popular experts; while a prompt is read, experts of a layer that the prompt uses more take
// the slots of those that it uses less (reference: policies.md B1). Counts add up over the chunks of a prompt.
#include <algorithm>

#include "engine/policy/components/all.h"
#include "engine/policy/components/parameters.h"
#include "engine/run/expert_cache.h"

namespace expertscope::components {
namespace {

class SequenceSwap final : public Allocator {
 public:
  SequenceSwap(const Parameters& p, std::unique_ptr<Component> popular)
      : factor_(p("factor")), candidates_(p.integer("candidates")), popular_(std::move(popular)) {}

  std::vector<ExpertId> initial(const PolicyContext& ctx, const Pools& pools, std::string& note) const override {
    return dynamic_cast<const Allocator&>(*popular_).initial(ctx, pools, note);
  }
  bool reallocates(Phase phase) const override { return phase == Phase::prefill; }

  void reallocate(const PolicyContext& ctx, const LayerRoutes&, std::vector<Swap>& swaps) override {
    std::vector<ExpertId> hot, cold;
    for (int e = 0; e < ctx.experts; ++e) {
      const ExpertId id{static_cast<std::uint16_t>(ctx.layer), static_cast<std::uint16_t>(e)};
      const ExpertCache::State state = ctx.cache->at(id).state;
      if (state == ExpertCache::State::absent) hot.push_back(id);
      if (state == ExpertCache::State::resident) cold.push_back(id);
    }
    const auto count = [&](ExpertId id) { return ctx.use_of(id).tokens_in_sequence; };
    std::ranges::stable_sort(hot, [&](ExpertId a, ExpertId b) { return count(a) > count(b); });
    std::ranges::stable_sort(cold, [&](ExpertId a, ExpertId b) { return count(a) < count(b); });
    const int most = candidates_ > 0 ? candidates_ : ctx.experts / 2;
    int pairs = 0;
    for (const ExpertId in : hot) {
      // An expert takes a slot of the GPU that it belongs to.
      const auto out =
          std::ranges::find(cold, ctx.cache->device_of(in), [&](ExpertId id) { return ctx.cache->device_of(id); });
      if (out == cold.end()) continue;
      if (++pairs > most) break;
      if (count(in) > factor_ * count(*out)) swaps.push_back({.in = in, .out = *out});
      cold.erase(out);
    }
  }

 private:
  double factor_;
  int candidates_;
  std::unique_ptr<Component> popular_;
};

}  // namespace

ComponentEntry allocator_sequence_swap() {
  return {.decl = {.kind = ComponentKind::allocator,
                   .name = "sequence-swap",
                   .help = "Starts with the most popular experts; each prompt swaps those it uses more for those it "
                           "uses less.",
                   .parameters = {real("factor", 1, 100, 1.05, "",
                                       "An expert must be used more than this many times as often as the one that "
                                       "makes room."),
                                  whole("candidates", 0, 1024, 0, "experts",
                                        "Swaps considered in a layer; 0 is half of its experts.")}},
          .make = [](const Parameters& p) { return std::make_unique<SequenceSwap>(p, allocator_popular().make(p)); }};
}

}  // namespace expertscope::components
