// Least recently used, by (step, layer) tick: within one request all members share a time stamp (reference: policies.md
// A1). An expert that was loaded and not used yet counts as used when it was loaded, else a prefetch would evict
// itself. Order access is what Mixtral-offloading does (B7): the order inside a request counts as age.
#include <algorithm>

#include "engine/policy/components/all.h"
#include "engine/policy/components/parameters.h"

namespace expertscope::components {
namespace {

class Lru final : public ScoringEvictor<Lru> {
 public:
  explicit Lru(const Parameters& p) : by_access_(p.integer("order") == 1) {}
  double keep_score(const PolicyContext& ctx, ExpertId id) const override {
    const ExpertUse& use = ctx.use_of(id);
    if (by_access_) {
      // The order inside a request is the count of demands since the session began, taken around at a number that no
      // request reaches: once in a million demands two experts of one request may be taken in the wrong order.
      constexpr std::uint64_t kAround = std::uint64_t{1} << 20U;
      const bool used = use.last_use_tick >= use.loaded_tick;
      const std::uint64_t tick = used ? use.last_use_tick : use.loaded_tick;
      return static_cast<double>(tick * kAround + (used ? use.last_use_number % kAround : 0));
    }
    return static_cast<double>(std::max(use.last_use_tick, use.loaded_tick));
  }

 private:
  bool by_access_;
};

}  // namespace

ComponentEntry evictor_lru() {
  return {.decl = {.kind = ComponentKind::evictor,
                   .name = "lru",
                   .help = "Evicts the expert that was used longest ago.",
                   .parameters = {choice("order", {"request", "access"},
                                         "Experts of one layer and step are equally old, or in the order in which "
                                         "they were asked for.")}},
          .make = [](const Parameters& p) { return std::make_unique<Lru>(p); }};
}

}  // namespace expertscope::components
