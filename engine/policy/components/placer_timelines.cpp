// HybriMoE (reference: policies.md B10): a layer's experts, resident ones too, are shared by GPU, CPU and link so that
// all finish early. The costs are this machine's, not the paper's.
#include "engine/policy/components/all.h"
#include "engine/policy/components/parameters.h"
#include "engine/policy/formulas.h"

namespace expertscope::components {
namespace {

class TimelinesPlacer final : public Placer {
 public:
  explicit TimelinesPlacer(const Parameters& p)
      : code_(p.integer("variant") == 1), first_cpu_ns_(p("first_cpu") * 1000), residents_(p.flag("residents")) {}

  bool moves_residents() const override { return residents_; }

  void place(const PolicyContext& ctx, std::span<const DemandView> demands, std::span<Placement> out) override {
    if (code_ && ctx.phase == Phase::prefill) return;  // the code runs prompts on the GPU alone
    experts_.clear();
    const Machine& machine = *ctx.machine;
    const auto whole_copy_ns = static_cast<double>(machine.copy_cost_ns());  // what is under way arrives by then
    for (std::size_t i = 0; i < demands.size(); ++i) {
      experts_.push_back({.tokens = static_cast<int>(demands[i].demand->computed_rows()),
                          .cached = demands[i].state != DemandState::miss,
                          .arrives = demands[i].state == DemandState::late ? whole_copy_ns : 0});
    }
    const ScheduleCosts costs{
        .gpu = [&](int tokens) { return static_cast<double>(machine.gpu_expert_cost_ns(tokens)); },
        .cpu = [&](int tokens) { return static_cast<double>(machine.cpu_expert_cost_ns(tokens)); },
        .move = whole_copy_ns,
        .first_cpu = first_cpu_ns_};
    const Schedule schedule = code_ ? two_pointer_schedule(experts_, costs) : timelines_schedule(experts_, costs);
    for (std::size_t i = 0; i < demands.size(); ++i) {
      const bool may_move = residents_ || demands[i].state == DemandState::miss;
      if (schedule.on_cpu[i] != 0 && may_move) out[i] = Placement::cpu;
    }
  }

 private:
  bool code_;
  double first_cpu_ns_;
  bool residents_;
  std::vector<ScheduledExpert> experts_;
};

}  // namespace

ComponentEntry placer_timelines() {
  return {.decl = {.kind = ComponentKind::placer,
                   .name = "timelines",
                   .help = "Simulates GPU, CPU and link and shares a layer's experts so that the last is done early.",
                   .parameters = {choice("variant", {"paper", "code"},
                                         "Three timelines also for prompts, or the code's two-pointer queue and "
                                         "prompts on the GPU alone."),
                                  real("first_cpu", 0, 10000, 0, "us",
                                       "More for the first expert that the CPU takes in a layer."),
                                  flag("residents", true,
                                       "Resident experts may run on the CPU; then the GPU starts nothing by itself.")}},
          .make = [](const Parameters& p) { return std::make_unique<TimelinesPlacer>(p); }};
}

}  // namespace expertscope::components
