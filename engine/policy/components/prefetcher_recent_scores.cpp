// HybriMoE's code (reference: policies.md B10): the next layer's experts with the best smoothed router scores.
#include <algorithm>

#include "engine/policy/components/all.h"
#include "engine/policy/components/parameters.h"

namespace expertscope::components {
namespace {

class RecentScores final : public Prefetcher {
 public:
  explicit RecentScores(const Parameters& p) : size_(p.integer("size")), prefill_(p.flag("prefill")) {}
  int depth() const override { return 1; }

  void choose(const PolicyContext& ctx, std::span<const Candidate>, std::vector<EarlyCopy>& out) override {
    const std::vector<double>& score = ctx.state->router_score;
    if (score.empty() || ctx.layer + 1 >= ctx.layers || (ctx.phase == Phase::prefill && !prefill_)) return;
    next_.clear();
    for (int e = 0; e < ctx.experts; ++e)
      next_.push_back({.layer = static_cast<std::uint16_t>(ctx.layer + 1), .expert = static_cast<std::uint16_t>(e)});
    std::ranges::stable_sort(next_, [&](ExpertId a, ExpertId b) { return score[ctx.index(a)] > score[ctx.index(b)]; });
    next_.resize(static_cast<std::size_t>(std::min(size_, ctx.experts)));
    for (ExpertId id : next_) {
      if (score[ctx.index(id)] > 0) out.push_back({.expert = id});
    }
  }

 private:
  int size_;
  bool prefill_;
  std::vector<ExpertId> next_;
};

}  // namespace

ComponentEntry prefetcher_recent_scores() {
  return {.decl = {.kind = ComponentKind::prefetcher,
                   .name = "recent-scores",
                   .help = "Copies the next layer's experts with the best scores of evictor mrs, which it needs.",
                   .parameters = {whole("size", 0, 64, 0, "experts",
                                        "How many are copied for each layer; the project's own command line gives 0."),
                                  prefill_too()}},
          .make = [](const Parameters& p) { return std::make_unique<RecentScores>(p); }};
}

}  // namespace expertscope::components
