// llama.cpp's operator offload (reference: policies.md A2): weights in host memory are computed on there, unless the
// step has enough tokens to be worth a copy; what is copied is used once.
#include "engine/policy/components/all.h"
#include "engine/policy/components/parameters.h"

namespace expertscope::components {
namespace {

class Batch final : public Placer {
 public:
  explicit Batch(const Parameters& p) : by_share_(p.integer("variant") == 1), tokens_(p.integer("tokens")) {}

  void routed(const PolicyContext&, const LayerRoutes& routes) override { in_step_ = routes.tokens.size(); }

  void place(const PolicyContext& ctx, std::span<const DemandView>, std::span<Placement> out) override {
    const double needed = by_share_ ? static_cast<double>(tokens_) * ctx.experts / ctx.top_k : tokens_;
    const Placement place = static_cast<double>(in_step_) >= needed ? Placement::stream : Placement::cpu;
    for (Placement& p : out) {
      if (p == Placement::fetch) p = place;
    }
  }

 private:
  bool by_share_;
  int tokens_;
  std::size_t in_step_ = 0;
};

}  // namespace

ComponentEntry placer_batch() {
  return {.decl = {.kind = ComponentKind::placer,
                   .name = "batch",
                   .help = "Runs missing experts on the CPU, and streams them through the GPU in steps of many tokens.",
                   .parameters = {choice("variant", {"llama.cpp", "ik_llama.cpp"},
                                         "Compare the tokens of the step, or those that each expert gets on average."),
                                  whole("tokens", 1, 65536, 32, "tokens", "From so many on, experts are streamed.")}},
          .make = [](const Parameters& p) { return std::make_unique<Batch>(p); }};
}

}  // namespace expertscope::components
