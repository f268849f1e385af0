// FreeToken (reference: policies.md B12): of a layer's misses so many are fetched that link and CPU, which share the
// host's memory, finish together; those that were active most recently are fetched.
#include <algorithm>

#include "engine/policy/components/all.h"
#include "engine/policy/components/parameters.h"
#include "engine/policy/formulas.h"

namespace expertscope::components {
namespace {

class FractionSplit final : public Placer {
 public:
  explicit FractionSplit(const Parameters& p)
      : variant_(static_cast<Variant>(p.integer("variant"))), fraction_(p("fraction")), pick_(p.flag("pick")) {}

  void place(const PolicyContext& ctx, std::span<const DemandView> demands, std::span<Placement> out) override {
    if (ctx.phase == Phase::prefill) return;  // whole layers stream through, nothing is computed on the CPU
    misses_.clear();
    for (std::size_t i = 0; i < demands.size(); ++i) {
      if (out[i] == Placement::fetch) misses_.push_back(i);
    }
    if (misses_.empty()) return;
    // Host bandwidth by what the CPU's experts take, not by what its memory could give.
    const double ratio =
        static_cast<double>(ctx.machine->cpu_expert_cost_ns(1)) / static_cast<double>(ctx.machine->copy_cost_ns());
    if (pick_ && ratio > 0.5) return;
    std::ranges::stable_sort(misses_, [&](std::size_t a, std::size_t b) {
      const ExpertId x = demands[a].demand->expert, y = demands[b].demand->expert;
      const std::uint64_t x_used = ctx.use_of(x).previous_use_tick, y_used = ctx.use_of(y).previous_use_tick;
      return x_used != y_used ? x_used > y_used : x < y;
    });
    const auto fetched = static_cast<std::size_t>(fetched_count(ratio));
    for (std::size_t i = fetched; i < misses_.size(); ++i) out[misses_[i]] = Placement::cpu;
  }

 private:
  enum class Variant { paper, code, one };
  int fetched_count(double link_for_host_bandwidth) const {
    if (variant_ == Variant::one) return 1;
    const double fraction = fraction_ > 0 ? fraction_ : std::min(link_for_host_bandwidth, 1.0);
    const int fetched = fetched_of(static_cast<int>(misses_.size()), fraction);
    return variant_ == Variant::paper ? std::max(fetched, 1) : fetched;
  }

  Variant variant_;
  double fraction_;
  bool pick_;
  std::vector<std::size_t> misses_;
};

}  // namespace

ComponentEntry placer_fraction_split() {
  return {
      .decl = {.kind = ComponentKind::placer,
               .name = "fraction-split",
               .help =
                   "Fetches a fixed fraction of a layer's misses, most recently active first; the CPU runs the rest.",
               .parameters = {choice("variant", {"paper", "code", "one"},
                                     "Always at least one fetch, the code's rounding that may fetch none, or its fixed "
                                     "cap of one where nothing is measured."),
                              real("fraction", 0, 1, 0, "",
                                   "Share of the misses that the link takes; 0: link over CPU bandwidth, by this "
                                   "machine's estimates (with shared memory that is the paper's optimum)."),
                              flag("pick", false,
                                   "Fetch everything unless the CPU is more than twice as fast as the link, as the "
                                   "code's backend choice does.")}},
      .make = [](const Parameters& p) { return std::make_unique<FractionSplit>(p); }};
}

}  // namespace expertscope::components
