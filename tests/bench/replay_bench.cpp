// How fast recorded routing is replayed: demands per second by policy, with modelled time and with nobody listening.
// One run is recorded (the demo model, on-demand at cache ratio 0.25) and replayed; ratios are within this one run.
#include <chrono>
#include <cstdio>

#include "tests/engine/emulated_run.h"

using namespace expertscope;

namespace {

class Nobody final : public Observer {
 public:
  void on_start(const RunInfo&) override {}
  void on_event(const Event&) override {}
  void on_route(const RouteRecord&) override {}
  void on_epoch(const EpochRecord&) override {}
  void on_prompt(const PromptRecord&) override {}
  void on_mark(const MarkRecord&) override {}
  void on_health(const HealthNote&) override {}
  void on_piece(std::int32_t, std::string_view) override {}
  void on_logits(const LogitsRecord&) override {}
  void on_quality(const QualityRecord&) override {}
};

double seconds_of(auto&& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

int main() {
  EmulatedRun run("on-demand", 0.25);
  const double live = seconds_of([&] { run.generate(kTale, 900); });
  const RecordedRun recorded = run.events.recorded();
  const auto demands = static_cast<double>(run.events.demands.size());
  std::printf("recorded %.0f demands in %.2f s\n%-12s %14s %12s\n", demands, live, "policy", "demands/s",
              "against live");
  for (const char* policy : {"on-demand", "lfu", "static", "cpu-only", "split", "lookahead", "resident", "belady"}) {
    Nobody nobody;
    const ReplayRequest request{.policy = parse_policy_spec(policy),
                                .cache_ratio = std::string(policy) == "resident" ? 1 : 0.25};
    double best = 1e9;
    for (int i = 0; i < 3; ++i) best = std::min(best, seconds_of([&] { replay(recorded, request, nobody); }));
    std::printf("%-12s %14.0f %11.1fx\n", policy, demands / best, live / best);
  }
}
