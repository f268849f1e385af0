// HybriMoE's paper (reference: policies.md B10): of what the gates of coming layers predict, copies first what shortens
// its layer most, by the same timelines that share out a layer's work.
#include <algorithm>
#include <array>
#include <unordered_map>

#include "engine/policy/components/all.h"
#include "engine/policy/components/parameters.h"
#include "engine/policy/formulas.h"
#include "engine/run/expert_cache.h"

namespace expertscope::components {
namespace {

class Impact final : public Prefetcher {
 public:
  explicit Impact(const Parameters& p)
      : depth_(p.integer("depth")),
        most_(p.integer("most")),
        less_move_(p.flag("subtract_move")),
        prefill_(p.flag("prefill")),
        cancel_(p.flag("cancel")) {}
  int depth() const override { return depth_; }
  bool cancels_refuted() const override { return cancel_; }

  void choose(const PolicyContext& ctx, std::span<const Candidate> candidates, std::vector<EarlyCopy>& out) override {
    if (ctx.phase == Phase::prefill && !prefill_) return;
    const Machine& machine = *ctx.machine;
    const ScheduleCosts costs{
        .gpu = [&](int tokens) { return static_cast<double>(machine.gpu_expert_cost_ns(tokens)); },
        .cpu = [&](int tokens) { return static_cast<double>(machine.cpu_expert_cost_ns(tokens)); },
        .move = static_cast<double>(machine.copy_cost_ns())};
    if (const std::array<double, 3> now{costs.gpu(1), costs.cpu(1), costs.move}; now != known_for_) {
      known_.clear();
      known_for_ = now;
    }
    there_.clear();
    for (const Candidate& c : candidates)
      there_.push_back({.tokens = 1, .cached = ctx.cache->at(c.expert).state != ExpertCache::State::absent});
    gain_.assign(candidates.size(), 0);
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      if (i == 0 || candidates[i].distance != candidates[i - 1].distance) weigh_layer(candidates, i, costs);
    }
    for (int n = 0; n < most_; ++n) {
      const auto best = std::ranges::max_element(gain_);
      if (best == gain_.end() || *best <= 0) return;
      const auto i = static_cast<std::size_t>(best - gain_.begin());
      out.push_back({.expert = candidates[i].expert});
      there_[i].cached = true;
      weigh_layer(candidates, i, costs);
    }
  }

 private:
  // What each missing expert of one coming layer would save it.
  void weigh_layer(std::span<const Candidate> candidates, std::size_t member, const ScheduleCosts& costs) {
    std::size_t first = member, end = member;
    while (first > 0 && candidates[first - 1].distance == candidates[member].distance) --first;
    while (end < candidates.size() && candidates[end].distance == candidates[member].distance) ++end;
    const std::span<ScheduledExpert> layer = std::span(there_).subspan(first, end - first);
    const double without = makespan(layer, costs);
    for (std::size_t i = 0; i < layer.size(); ++i) {
      gain_[first + i] = 0;
      if (layer[i].cached) continue;
      layer[i].cached = true;
      gain_[first + i] = without - makespan(layer, costs) - (less_move_ ? costs.move : 0);
      layer[i].cached = false;
    }
  }

  // Of experts with one token each, which depends on who of them is there alone: the same few patterns come up in every
  // layer, and a schedule takes a microsecond.
  double makespan(std::span<const ScheduledExpert> layer, const ScheduleCosts& costs) {
    if (layer.size() >= 64) return timelines_schedule(layer, costs).makespan();
    std::uint64_t pattern = 1;  // of their number too
    for (const ScheduledExpert& e : layer) pattern = pattern << 1U | (e.cached ? 1U : 0U);
    if (known_.size() >= kMostKnown) known_.clear();
    const auto [known, is_new] = known_.try_emplace(pattern, 0.0);
    if (is_new) known->second = timelines_schedule(layer, costs).makespan();
    return known->second;
  }

  static constexpr std::size_t kMostKnown = 1U << 14U;

  int depth_, most_;
  bool less_move_, prefill_, cancel_;
  std::vector<ScheduledExpert> there_;  // of the candidates
  std::vector<double> gain_;
  std::unordered_map<std::uint64_t, double> known_;  // makespans
  std::array<double, 3> known_for_{};                // with these costs
};

}  // namespace

ComponentEntry prefetcher_impact() {
  return {.decl = {.kind = ComponentKind::prefetcher,
                   .name = "impact",
                   .help = "Copies the predicted experts that shorten their layer most, by simulated timelines.",
                   .parameters = {whole("depth", 1, kMaxLookahead, 3, "layers", "How many layers ahead are weighed."),
                                  whole("most", 1, 16, 1, "experts",
                                        "Copies started for each layer in work; the paper leaves it open."),
                                  flag("subtract_move", false, "A copy's own time counts against what it saves."),
                                  prefill_too(), cancel_refuted()}},
          .make = [](const Parameters& p) { return std::make_unique<Impact>(p); }};
}

}  // namespace expertscope::components
