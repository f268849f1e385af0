// A run on the CUDA device, for tests. They are skipped where there is none.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include <gtest/gtest.h>

#include "engine/machines/cuda_available.h"
#include "engine/machines/cuda_machine.h"
#include "engine/machines/emulated_machine.h"
#include "engine/run/exact_shadow.h"
#include "engine/run/runner.h"
#include "tests/engine/recorded_events.h"

namespace expertscope {

#define NEEDS_DEVICE() \
  if (cuda_device_count() == 0) GTEST_SKIP() << "no CUDA device"

constexpr int kCudaChunk = 256;

using ChangeOptions = std::function<void(RunOptions&)>;

struct CudaRun {
  CudaRun(const Model& m, const std::string& policy, double cache_ratio, const ChangeOptions& change = {},
          std::optional<std::int64_t> host_bytes = {})
      : model(m), machine(make_cuda_machine(m, pool, {.max_step_tokens = kCudaChunk, .host_bytes = host_bytes})) {
    options.policy = parse_policy_spec(policy);
    options.cache_ratio = cache_ratio;
    options.prefill_chunk = kCudaChunk;
    options.record_logits = 16;
    options.record_gates = 0;
    if (change) change(options);
    runner = std::make_unique<Runner>(model, *machine, &events, options);
  }
  const Model& model;
  RunOptions options;
  ThreadPool pool{4};
  std::unique_ptr<Machine> machine;
  RecordedEvents events;
  std::unique_ptr<Runner> runner;
};

}  // namespace expertscope
