// A run of the demo model on an emulated machine, for tests.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/machines/emulated_machine.h"
#include "engine/model/arithmetic.h"
#include "engine/model/thread_pool.h"
#include "engine/run/runner.h"
#include "tests/engine/model/demo_model.h"
#include "tests/engine/recorded_events.h"

namespace expertscope {

struct EmulatedRun {
  explicit EmulatedRun(const std::string& policy, double cache_ratio, const std::string& profile = "rtx4090-pcie4",
                       const std::string& cost_shape = "mixtral-8x7b-q4", int threads = 1)
      : EmulatedRun(policy, cache_ratio, load_profile(profile), cost_shape, threads) {}

  EmulatedRun(const std::string& policy, double cache_ratio, const MachineProfile& profile,
              const std::string& cost_shape, int threads = 1, std::optional<std::int64_t> host_bytes = {})
      : pool(threads), arithmetic(demo_model(), pool, kChunk, kSequences) {
    options.policy = parse_policy_spec(policy);
    options.cache_ratio = cache_ratio;
    options.prefill_chunk = kChunk;
    RunShape shape = run_shape(demo_model().description(), kChunk);
    shape.host_bytes = host_bytes;
    machine =
        make_emulated_machine(profile, load_cost_shape(cost_shape, demo_model()), shape, &demo_model(), &arithmetic);
  }

  Runner& runner() {
    if (!runner_) runner_ = std::make_unique<Runner>(demo_model(), *machine, &events, options);
    return *runner_;
  }
  std::vector<std::int32_t> generate(const std::string& prompt, int tokens) {
    return runner().run_prompt({.workload = "", .text = prompt, .ids = {}}, tokens);
  }

  static constexpr int kChunk = 512;
  static constexpr int kSequences = 16;  // KV caches that there are
  RunOptions options;                    // may be changed before the first runner()
  ThreadPool pool;
  Arithmetic arithmetic;
  std::unique_ptr<Machine> machine;
  RecordedEvents events;

 private:
  std::unique_ptr<Runner> runner_;
};

inline const char* kTale = "Once upon a time there was a little girl who lived in a cottage near the sea, and";

}  // namespace expertscope
