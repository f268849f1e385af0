// Mixtral-offloading's speculative loading (reference: policies.md B7): the likeliest missing experts of the next layer
// wait in staging buffers until they are used, and displace nothing.
#include <algorithm>

#include "engine/policy/components/all.h"
#include "engine/policy/components/parameters.h"

namespace expertscope::components {
namespace {

class Staged final : public Prefetcher {
 public:
  explicit Staged(const Parameters& p)
      : count_(p.integer("count")),
        buffers_(p.integer("buffers")),
        prefill_(p.flag("prefill")),
        cancel_(p.flag("cancel")) {}
  int depth() const override { return 1; }
  bool cancels_refuted() const override { return cancel_; }
  int staging_slots() const override { return buffers_; }

  void choose(const PolicyContext& ctx, std::span<const Candidate> candidates, std::vector<EarlyCopy>& out) override {
    if (ctx.phase == Phase::prefill && !prefill_) return;
    for (const Candidate& c : candidates.first(std::min(candidates.size(), static_cast<std::size_t>(count_))))
      out.push_back({.expert = c.expert});
  }

 private:
  int count_, buffers_;
  bool prefill_, cancel_;
};

}  // namespace

ComponentEntry prefetcher_staged() {
  return {
      .decl = {.kind = ComponentKind::prefetcher,
               .name = "staged",
               .help = "Copies the next layer's likeliest experts into staging buffers, where they wait until used.",
               .parameters = {whole("count", 1, kGateEntries, 2, "experts",
                                    "How many of the predicted experts are copied, if missing; the paper says 1 "
                                    "or 2."),
                              whole("buffers", 1, 64, 4, "slots", "Staging buffers for them, beside the cache."),
                              prefill_too(), cancel_refuted()}},
      .make = [](const Parameters& p) { return std::make_unique<Staged>(p); }};
}

}  // namespace expertscope::components
