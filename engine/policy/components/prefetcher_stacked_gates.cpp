// HOBBIT (reference: policies.md B3): coming layers are looked at one after the other; what they want is held, and the
// first of them that lacks something has it copied.
#include <algorithm>

#include "engine/policy/components/all.h"
#include "engine/policy/components/parameters.h"
#include "engine/run/expert_cache.h"

namespace expertscope::components {
namespace {

class StackedGates final : public Prefetcher {
 public:
  explicit StackedGates(const Parameters& p)
      : depth_(p.integer("depth")),
        low_above_(static_cast<float>(p("low_above"))),
        hold_(p.flag("hold")),
        prefill_(p.flag("prefill")),
        cancel_(p.flag("cancel")) {}
  int depth() const override { return depth_; }
  bool cancels_refuted() const override { return cancel_; }

  void choose(const PolicyContext& ctx, std::span<const Candidate> candidates, std::vector<EarlyCopy>& out) override {
    if (ctx.phase == Phase::prefill && !prefill_) return;
    int missing_in = 0;  // distance of the first layer that lacks something
    float before = 0;    // share of the better candidates of the same layer
    int distance = 0;
    for (const Candidate& c : candidates) {
      if (c.distance != distance) distance = c.distance, before = 0, all_ = sum_of(candidates, distance);
      const bool low = before > low_above_ && ctx.low_cache->slot_count() > 0;
      before += c.probability / all_;
      if (missing_in != 0 && c.distance != missing_in) return;
      if (hold_) {
        std::uint64_t& held = ctx.state->held_until[ctx.index(c.expert)];
        held = std::max(held, ctx.tick + static_cast<std::uint64_t>(c.distance));
      }
      if (ctx.cache->at(c.expert).state != ExpertCache::State::absent) continue;
      if (low && ctx.low_cache->at(c.expert).state != ExpertCache::State::absent) continue;
      missing_in = c.distance;
      out.push_back({.expert = c.expert, .low = low});
    }
  }

 private:
  static float sum_of(std::span<const Candidate> candidates, int distance) {
    float sum = 0;
    for (const Candidate& c : candidates) sum += c.distance == distance ? c.probability : 0;
    return sum > 0 ? sum : 1;
  }

  int depth_;
  float low_above_;
  bool hold_, prefill_, cancel_;
  float all_ = 1;  // of the layer that is looked at
};

}  // namespace

ComponentEntry prefetcher_stacked_gates() {
  return {
      .decl = {.kind = ComponentKind::prefetcher,
               .name = "stacked-gates",
               .help = "Looks layer by layer ahead, holds what is predicted, and copies for the first that lacks any.",
               .parameters = {whole("depth", 1, kMaxLookahead, 3, "layers",
                                    "How many layers ahead it looks at most; the paper uses 1 to 3."),
                              real("low_above", 0, 1, 0.6, "",
                                   "T1 on predicted scores, where the policy has a low precision."),
                              flag("hold", true, "Predicted experts are evicted last until their layer has run."),
                              prefill_too(), cancel_refuted()}},
      .make = [](const Parameters& p) { return std::make_unique<StackedGates>(p); }};
}

}  // namespace expertscope::components
