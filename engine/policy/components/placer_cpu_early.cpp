// DAOP: in a prompt an expert that is not resident runs where it costs less, by the number of its tokens; at decode it
// runs on the CPU, one layer early where the gate decided a layer early (reference: policies.md B1).
#include "engine/policy/components/all.h"
#include "engine/policy/components/parameters.h"

namespace expertscope::components {
namespace {

class CpuEarly final : public Placer {
 public:
  explicit CpuEarly(const Parameters& p)
      : cpu_per_token_ns_(p("cpu_per_token") * 1e6), gpu_per_load_ns_(p("gpu_per_load") * 1e6) {}
  bool runs_early() const override { return true; }

  void place(const PolicyContext& ctx, std::span<const DemandView> demands, std::span<Placement> out) override {
    for (std::size_t i = 0; i < demands.size(); ++i) {
      if (out[i] != Placement::fetch) continue;
      const bool on_cpu =
          ctx.phase == Phase::decode || cheaper_on_cpu(ctx, static_cast<int>(demands[i].demand->computed_rows()));
      out[i] = on_cpu ? Placement::cpu : Placement::stream;
    }
  }

 private:
  // The sum over experts is separable, so each is decided by itself; a tie stays on the GPU.
  bool cheaper_on_cpu(const PolicyContext& ctx, int tokens) const {
    const double cpu = cpu_per_token_ns_ > 0 ? cpu_per_token_ns_ * tokens
                                             : static_cast<double>(ctx.machine->cpu_expert_cost_ns(tokens));
    const double gpu = gpu_per_load_ns_ > 0
                           ? gpu_per_load_ns_
                           : static_cast<double>(ctx.machine->copy_cost_ns() + ctx.machine->gpu_expert_cost_ns(tokens));
    return cpu < gpu;
  }

  double cpu_per_token_ns_, gpu_per_load_ns_;
};

}  // namespace

ComponentEntry placer_cpu_early() {
  return {
      .decl = {.kind = ComponentKind::placer,
               .name = "cpu-early",
               .help = "Runs what is missing on the CPU, one layer early where it is known; in prompts, where it is "
                       "cheaper.",
               .parameters = {real("cpu_per_token", 0, 1e6, 0, "ms",
                                   "Cost of one token's expert on the CPU in prompts (the paper's A6000 and "
                                   "Mixtral: 8.5); 0 takes the machine's own."),
                              real("gpu_per_load", 0, 1e6, 0, "ms",
                                   "Cost of loading an expert in prompts (the paper's A6000 and Mixtral: 210); 0 "
                                   "takes the machine's own.")}},
      .make = [](const Parameters& p) { return std::make_unique<CpuEarly>(p); }};
}

}  // namespace expertscope::components
