// "Perfect LFU": counts are kept while an expert is evicted (reference: policies.md A1).
#include "engine/policy/components/all.h"

namespace expertscope::components {
namespace {

class Lfu final : public ScoringEvictor<Lfu> {
 public:
  explicit Lfu(const Parameters& p) : whole_session_(p.integer("history") == 1) {}
  double keep_score(const PolicyContext& ctx, ExpertId id) const override {
    const ExpertUse& use = ctx.use_of(id);
    return static_cast<double>(whole_session_ ? use.uses : use.uses_in_sequence);
  }

 private:
  bool whole_session_;
};

}  // namespace

ComponentEntry evictor_lfu() {
  return {.decl = {.kind = ComponentKind::evictor,
                   .name = "lfu",
                   .help = "Evicts the expert that was used least often.",
                   .parameters = {{.name = "history",
                                   .type = ParameterType::choice,
                                   .min = 0,
                                   .max = 1,
                                   .default_value = 0,
                                   .unit = "",
                                   .help = "Count uses since the prompt began, or since the session began.",
                                   .choices = {"sequence", "session"}}}},
          .make = [](const Parameters& p) { return std::make_unique<Lfu>(p); }};
}

}  // namespace expertscope::components
