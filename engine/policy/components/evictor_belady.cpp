// The oracle for request sets with bypass: the cache keeps those of its content and the request with the nearest next
// use (reference: policies.md O1). "Never again" is infinitely far; ties by lower id through the common rule.
#include "engine/assert.h"
#include "engine/policy/components/all.h"
#include "engine/policy/components/parameters.h"

namespace expertscope::components {
namespace {

class Belady final : public ScoringEvictor<Belady> {
 public:
  explicit Belady(const Parameters& p) : bypass_(p.flag("bypass")) {}
  double keep_score(const PolicyContext& ctx, ExpertId id) const override {
    ES_ASSERT(ctx.future != nullptr, "the oracle exists in replay alone");
    return -static_cast<double>(ctx.future->next_use(id, ctx.tick));
  }
  bool compares_incoming() const override { return bypass_; }
  bool needs_future() const override { return true; }

 private:
  bool bypass_;
};

}  // namespace

ComponentEntry evictor_belady() {
  return {.decl = {.kind = ComponentKind::evictor,
                   .name = "belady",
                   .help = "Evicts the expert that is needed furthest in the future; replay only.",
                   .parameters = {flag("bypass", true,
                                       "What is needed later than all that is resident is streamed and not kept.")}},
          .make = [](const Parameters& p) { return std::make_unique<Belady>(p); }};
}

}  // namespace expertscope::components
