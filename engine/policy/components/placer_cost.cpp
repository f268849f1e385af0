// Fiddler (reference: policies.md B9): each missing expert runs where it is done first, for its own number of tokens.
#include "engine/policy/components/all.h"
#include "engine/policy/components/parameters.h"
#include "engine/policy/formulas.h"

namespace expertscope::components {
namespace {

class Cost final : public Placer {
 public:
  explicit Cost(const Parameters& p)
      : code_(p.integer("variant") == 1), cpu_cost_(p("cpu_cost")), load_cost_(p("load_cost")), keep_(p.flag("keep")) {}

  void place(const PolicyContext& ctx, std::span<const DemandView> demands, std::span<Placement> out) override {
    for (std::size_t i = 0; i < demands.size(); ++i) {
      if (out[i] != Placement::fetch) continue;
      const int rows = static_cast<int>(demands[i].demand->computed_rows());
      if (on_cpu(*ctx.machine, rows)) {
        out[i] = Placement::cpu;
      } else if (!keep_) {
        out[i] = Placement::stream;
      }
    }
  }

 private:
  bool on_cpu(const Machine& machine, int rows) const {
    if (code_) return runs_on_cpu(cpu_cost_ * rows, load_cost_, false);
    return runs_on_cpu(static_cast<double>(machine.cpu_expert_cost_ns(rows)),
                       static_cast<double>(machine.gpu_expert_cost_ns(rows) + machine.copy_cost_ns()), true);
  }

  bool code_;
  double cpu_cost_, load_cost_;
  bool keep_;
};

}  // namespace

ComponentEntry placer_cost() {
  return {
      .decl = {.kind = ComponentKind::placer,
               .name = "cost",
               .help = "Runs a missing expert on the CPU unless copying it and running it on the GPU is faster.",
               .parameters = {choice("variant", {"paper", "code"},
                                     "Compare this machine's measured costs, or the code's constants."),
                              real("cpu_cost", 0, 1000, 7, "",
                                   "Variant code: cost of one token on the CPU, in the unit of load_cost."),
                              real("load_cost", 0, 10000, 70, "",
                                   "Variant code: cost of copying an expert and running it on the GPU."),
                              flag("keep", false,
                                   "Copied experts take slots; off, placement never changes and they are streamed.")}},
      .make = [](const Parameters& p) { return std::make_unique<Cost>(p); }};
}

}  // namespace expertscope::components
