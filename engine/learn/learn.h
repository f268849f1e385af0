// Everything that a prior holds, from forward passes of a model over prompts.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "engine/learn/recorded_texts.h"
#include "engine/learn/routing_path_training.h"
#include "engine/policy/prior.h"

namespace expertscope {

struct LearnRule {
  RecordingRule recording{.generate = 256, .continuations = 3, .temperature = 1, .seed = 0};
  std::int64_t sensitivity_tokens =
      16384;  // about as many are read once for each layer; 0: sensitivities are not learned
  std::int64_t importance_tokens = 2048;  // about as many are read once for each expert; 0: importance is not learned
  RoutingPathRule routing_path;
};

// Told what is being done and how far it is; false ends the work.
using LearnStages = std::function<bool(const char* stage, std::int64_t done, std::int64_t all)>;

struct Learned {
  Prior prior;
  double loss = 0;               // nats a token, of the texts that sensitivities were measured on; 0 without
  std::int64_t cut_prompts = 0;  // lost their end: they did not fit the context together with what was generated
};

// Prompts are token ids, none of them empty, at least one. The same for every number of threads. InputError when the
// rule does not fit the model; RunError when `stages` ends it.
Learned learn(const Model&, ThreadPool&, const std::string& source, std::span<const std::vector<std::int32_t>> prompts,
              const LearnRule&, const LearnStages& stages);

}  // namespace expertscope
