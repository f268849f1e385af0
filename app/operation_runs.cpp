#include "app/operation_runs.h"

#include <chrono>
#include <system_error>

#include "app/demo_model.h"
#include "engine/machines/operation_timing.h"
#include "engine/run/runner.h"
#include "engine/synth/synth_model.h"

namespace expertscope {
namespace {

constexpr std::int32_t kOrdinaryToken = 300;  // of every model that is run here

// A model of random weights, for as long as this lives.
class WrittenModel {
 public:
  WrittenModel(const SynthShape& shape, const std::filesystem::path& folder, int threads)
      : paths_(synth_paths(folder / "expertscope-calibrate.gguf")) {
    const SynthRequest request{.shape = shape, .type = TensorType::q4_k, .routing = SynthRouting::uniform};
    write_synthetic_model(request, paths_, threads, [](std::int64_t, std::int64_t) { return true; });
  }
  ~WrittenModel() {
    std::error_code ignored;
    for (const auto& path : {paths_.model, paths_.ids, paths_.routing}) std::filesystem::remove(path, ignored);
  }
  WrittenModel(const WrittenModel&) = delete;
  WrittenModel& operator=(const WrittenModel&) = delete;
  const std::filesystem::path& path() const { return paths_.model; }

 private:
  SynthPaths paths_;
};

void run(const OperationRuns& runs, const Model& model, const char* policy, double ratio, OperationTimer& timer) {
  ThreadPool pool(runs.threads);
  const std::unique_ptr<Machine> machine = runs.make_machine(model, pool);
  RunOptions options;
  options.policy = parse_policy_spec(policy);
  options.cache_ratio = ratio;
  options.record_gates = 0;
  options.prefill_chunk = kOperationRunsChunk;
  Runner runner(model, *machine, &timer, options);
  runner.run_prompt({.workload = "", .text = "", .ids = {kOrdinaryToken, kOrdinaryToken + 1}}, runs.tokens);
  machine->set_observer(nullptr);
}

}  // namespace

SynthShape large_shape() {
  SynthShape shape = find_synth_shape("qwen3-30b-a3b");
  shape.layers = 2;
  return shape;
}

void time_operations(const OperationRuns& runs, MachineProfile& profile) {
  OperationTimer timer([] {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
  });
  runs.said("operations of a small model");
  {
    const Model model(demo_model_path());
    run(runs, model, "resident", 1, timer);
    run(runs, model, "on-demand", 0.75, timer);
  }
  runs.said("operations of a large model");
  {
    const WrittenModel written(runs.shape, runs.scratch, runs.threads);
    const Model model(written.path());
    run(runs, model, "resident", 1, timer);
  }
  timer.apply_to(profile);
}

}  // namespace expertscope
