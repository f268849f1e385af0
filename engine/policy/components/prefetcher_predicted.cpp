#include <algorithm>

#include "engine/policy/components/all.h"
#include "engine/policy/components/parameters.h"

namespace expertscope::components {
namespace {

class Predicted final : public Prefetcher {
 public:
  explicit Predicted(const Parameters& p)
      : depth_(p.integer("depth")), most_(p.integer("most")), prefill_(p.flag("prefill")), cancel_(p.flag("cancel")) {}
  int depth() const override { return depth_; }
  bool cancels_refuted() const override { return cancel_; }

  // Nearest layer first, most probable first: the candidates' own order.
  void choose(const PolicyContext& ctx, std::span<const Candidate> candidates, std::vector<EarlyCopy>& out) override {
    if (ctx.phase == Phase::prefill && !prefill_) return;
    const auto most = most_ > 0 ? static_cast<std::size_t>(most_) : candidates.size();
    for (const Candidate& c : candidates.first(std::min(most, candidates.size()))) out.push_back({.expert = c.expert});
  }

 private:
  int depth_, most_;
  bool prefill_, cancel_;
};

}  // namespace

ComponentEntry prefetcher_predicted() {
  return {
      .decl =
          {.kind = ComponentKind::prefetcher,
           .name = "predicted",
           .help =
               "Copies the predicted experts of coming layers while this layer runs, nearest and most probable first.",
           .parameters = {whole("depth", 1, kMaxLookahead, 1, "layers", "How many layers ahead are prefetched."),
                          prefill_too(), cancel_refuted(),
                          whole("most", 0, 64, 0, "experts",
                                "At most so many of the predicted for each layer in work; 0 is no limit.")}},
      .make = [](const Parameters& p) { return std::make_unique<Predicted>(p); }};
}

}  // namespace expertscope::components
