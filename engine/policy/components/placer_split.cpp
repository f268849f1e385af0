// A layer's misses are shared by the link and the CPU so that both finish together (reference: policies.md O2, B12).
// Each miss goes where it would be done first, given what this layer has already queued there: for misses of equal cost
// that is the best split there is. The layer's first fetch may take longer than the CPU would, since only what is
// fetched can be hit later: where the CPU is the faster way, the cache would else stay as it is for ever.
#include "engine/policy/components/all.h"

namespace expertscope::components {
namespace {

class Split final : public Placer {
 public:
  explicit Split(const Parameters& p) : bias_(p("bias")), worth_(p("worth")) {}

  void place(const PolicyContext& ctx, std::span<const DemandView> demands, std::span<Placement> out) override {
    double link_ns = 0, cpu_ns = 0;
    for (std::size_t i = 0; i < demands.size(); ++i) {
      if (out[i] != Placement::fetch) continue;
      const int rows = static_cast<int>(demands[i].demand->computed_rows());
      const double copied_ns = link_ns + static_cast<double>(ctx.machine->copy_cost_ns());
      const double on_gpu_ns = copied_ns + static_cast<double>(ctx.machine->gpu_expert_cost_ns(rows));
      const double cpu_cost_ns = bias_ * static_cast<double>(ctx.machine->cpu_expert_cost_ns(rows));
      const double on_cpu_ns = cpu_ns + cpu_cost_ns;
      const bool refreshes_the_cache = link_ns == 0 && ctx.slots > 0;
      if (on_gpu_ns > on_cpu_ns + (refreshes_the_cache ? worth_ * cpu_cost_ns : 0)) {
        cpu_ns = on_cpu_ns;
        out[i] = Placement::cpu;
      } else {
        link_ns = copied_ns;
      }
    }
  }

 private:
  double bias_, worth_;
};

}  // namespace

ComponentEntry placer_split() {
  return {
      .decl = {.kind = ComponentKind::placer,
               .name = "split",
               .help = "Shares a layer's missing experts between the link and the CPU so that both finish together.",
               .parameters = {{.name = "bias",
                               .type = ParameterType::real,
                               .min = 0.1,
                               .max = 10,
                               .default_value = 1,
                               .unit = "",
                               .help = "Estimated CPU times are multiplied by this; above 1 fetches more.",
                               .choices = {}},
                              {.name = "worth",
                               .type = ParameterType::real,
                               .min = 0,
                               .max = 100,
                               .default_value = 1,
                               .unit = "uses",
                               .help = "Later uses that a fetch is expected to save the CPU; for a layer's first "
                                       "fetch, that much longer is waited.",
                               .choices = {}}}},
      .make = [](const Parameters& p) { return std::make_unique<Split>(p); }};
}

}  // namespace expertscope::components
