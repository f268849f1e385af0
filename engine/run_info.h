// What a run is, known before its first step: enough to draw, report and replay it without the model file.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/ids.h"

namespace expertscope {

struct MemoryUse {                 // bytes of the cost shape, per design: what the memory limit counts
  std::int64_t experts_bytes = 0;  // slots
  std::int64_t dense_bytes = 0;
  std::int64_t kv_bytes = 0;
  std::int64_t staging_bytes = 0;
  std::int64_t profiler_bytes = 0;
  std::int64_t gpu_peak_bytes = 0;  // highest sum so far, over all GPUs
  // Most that a layer's experts took for their rows, in and out, and a padding gate for its mask. Beside the sum, which
  // counts no activations. 0 where it is not known.
  std::int64_t work_bytes = 0;
  std::int64_t host_bytes = 0;  // host store
};

struct RunInfo {
  // model
  std::string model_name, model_arch, model_sha256;
  int layers = 0, experts = 0, top_k = 0;  // MoE layers, routed experts per layer
  int context = 0;                         // tokens
  int vocab = 0;
  // machine
  std::string machine_kind;  // "emulated", "cuda"
  std::string profile_name;
  std::string profile_json;  // complete, so that a session replays without the profile's file
  std::string cost_shape;    // "own" or a name
  std::string cost_shape_json;
  Label label = Label::estimated;
  int gpus = 1;
  std::int64_t expert_bytes = 0;     // of the cost shape, largest layer
  double h2d_bytes_per_s = 0;        // the links' ceiling, for charts; 0 with unified memory
  double gpu_bytes_per_s = 0;        // device memory bandwidth, of all GPUs
  std::int64_t clock_origin_ns = 0;  // CLOCK_MONOTONIC at session time 0, on a real machine; 0 on an emulated one
  // recording
  int recorded_gates = 0;  // gates of coming layers that are recorded
  int prefill_chunk = 0;   // most tokens of one prefill step
  int sequences = 1;       // most tokens of one decode step
  // start
  std::string policy_spec;
  double cache_ratio = 0;
  std::int64_t cache_bytes = 0;
  std::uint32_t slots = 0;
  std::string sampling_json;  // temperature, top_p, seed
  std::string prior_json;     // what --prior gave, "" without; so that a session replays without the prior's file
  MemoryUse memory;
};

}  // namespace expertscope
