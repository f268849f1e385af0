// Runs small models on a machine to learn what its operations take: the last part of a calibration.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "engine/machine.h"
#include "engine/machines/profile.h"
#include "engine/model/model.h"
#include "engine/model/thread_pool.h"
#include "engine/synth/synth_shape.h"

namespace expertscope {

inline constexpr int kOperationRunsChunk = 64;  // most tokens of one step

struct OperationRuns {
  int threads = 1;
  int tokens = 96;                // that each run generates
  std::filesystem::path scratch;  // a folder; a model of `shape` is written there and removed
  SynthShape shape;
  std::function<std::unique_ptr<Machine>(const Model&, ThreadPool&)> make_machine;
  std::function<void(const std::string&)> said;  // hears what is being measured
};

// The shape that stands for large models: two layers of Qwen3-30B-A3B, a file of 1 GB.
SynthShape large_shape();

// Runs the demo model and one of `shape`, and puts what operations took into the profile. What the machine or the disk
// throws, with no file left.
void time_operations(const OperationRuns&, MachineProfile&);

}  // namespace expertscope
