// A model of random weights with planted routing, written as a GGUF file that any engine loads: what offloading costs
// can be measured at true sizes without a download. Beside FILE.gguf lie FILE.ids.json, a text of token ids with the
// planted locality, and FILE.routing.json, which experts its first tokens should go to, and how skewed and local that
// is.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

#include "engine/synth/routing_statistics.h"
#include "engine/synth/synth_plan.h"

namespace expertscope {

struct SynthPaths {
  std::filesystem::path model, ids, routing;
};
// InputError unless it ends in .gguf.
SynthPaths synth_paths(const std::filesystem::path& model);

struct SynthResult {
  std::int64_t file_bytes = 0;  // of the model
  RoutingStatistics routing;
};

// Writes all three files, the model last, so that it is complete when it is there. Files of an earlier `synth` are
// replaced, others refused with InputError. RunError when the disk is full or `go_on` says no; then none is left.
// `go_on` hears how many bytes of how many are written, on the calling thread.
SynthResult write_synthetic_model(const SynthRequest&, const SynthPaths&, int threads,
                                  const std::function<bool(std::int64_t done, std::int64_t all)>& go_on);

}  // namespace expertscope
