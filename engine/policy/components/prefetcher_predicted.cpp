#include "engine/policy/components/all.h"

namespace expertscope::components {
namespace {

class Predicted final : public Prefetcher {
 public:
  explicit Predicted(const Parameters& p)
      : depth_(p.integer("depth")), prefill_(p.flag("prefill")), cancel_(p.flag("cancel")) {}
  int depth() const override { return depth_; }
  bool cancels_refuted() const override { return cancel_; }

  // Nearest layer first, most probable first: the candidates' own order.
  void choose(const PolicyContext& ctx, std::span<const Candidate> candidates, std::vector<EarlyCopy>& out) override {
    if (ctx.phase == Phase::prefill && !prefill_) return;
    for (const Candidate& c : candidates) out.push_back({.expert = c.expert});
  }

 private:
  int depth_;
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
           .parameters = {{.name = "depth",
                           .type = ParameterType::integer,
                           .min = 1,
                           .max = kMaxLookahead,
                           .default_value = 1,
                           .unit = "layers",
                           .help = "How many layers ahead are prefetched.",
                           .choices = {}},
                          {.name = "prefill",
                           .type = ParameterType::boolean,
                           .min = 0,
                           .max = 1,
                           .default_value = 0,
                           .unit = "",
                           .help = "Also prefetch while a prompt is read, when nearly every expert is wanted anyway.",
                           .choices = {}},
                          {.name = "cancel",
                           .type = ParameterType::boolean,
                           .min = 0,
                           .max = 1,
                           .default_value = 1,
                           .unit = "",
                           .help = "Drop queued prefetches that the layer's own router did not confirm.",
                           .choices = {}}}},
      .make = [](const Parameters& p) { return std::make_unique<Predicted>(p); }};
}

}  // namespace expertscope::components
