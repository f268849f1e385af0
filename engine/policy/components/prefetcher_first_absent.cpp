// AdapMoE (reference: policies.md B5): one early copy at a time, of the first predicted expert that is not there; the
// paper looks further ahead where the next layer has all it needs.
#include <algorithm>

#include "engine/policy/components/all.h"
#include "engine/policy/components/parameters.h"
#include "engine/run/expert_cache.h"

namespace expertscope::components {
namespace {

class FirstAbsent final : public Prefetcher {
 public:
  explicit FirstAbsent(const Parameters& p) : depth_(p.integer("variant") == 1 ? 1 : 3), prefill_(p.flag("prefill")) {}
  int depth() const override { return depth_; }
  bool cancels_refuted() const override { return true; }  // an unused prefetch gives its buffer back

  void choose(const PolicyContext& ctx, std::span<const Candidate> candidates, std::vector<EarlyCopy>& out) override {
    if (ctx.phase == Phase::prefill && !prefill_) return;
    const bool under_way = std::ranges::any_of(
        ctx.cache->loading(), [&](ExpertId id) { return ctx.cache->at(id).reason == CopyReason::prefetch; });
    if (under_way) return;
    for (const Candidate& c : candidates) {
      if (ctx.cache->at(c.expert).state != ExpertCache::State::absent) continue;
      out.push_back({.expert = c.expert});
      return;
    }
  }

 private:
  int depth_;
  bool prefill_;
};

}  // namespace

ComponentEntry prefetcher_first_absent() {
  return {.decl = {.kind = ComponentKind::prefetcher,
                   .name = "first-absent",
                   .help = "Copies the first predicted expert that is not there, one at a time.",
                   .parameters = {choice("variant", {"paper", "code"},
                                         "Look up to three layers ahead when nearer ones are complete, or one."),
                                  prefill_too()}},
          .make = [](const Parameters& p) { return std::make_unique<FirstAbsent>(p); }};
}

}  // namespace expertscope::components
