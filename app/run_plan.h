// A run, decided: every option resolved, every file read and checked. What can be refused is refused here, before an
// output file is touched and before anything runs.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "app/inputs.h"
#include "app/options.h"
#include "engine/machines/cost_shape.h"
#include "engine/machines/profile.h"
#include "engine/model/model.h"
#include "engine/run/runner.h"
#include "profiler/expectation.h"

namespace expertscope {

enum class RunMode : std::uint8_t {
  generate,  // continue each prompt
  forced,    // decode along the given ids
  text,      // teacher-forced over a text
};

struct RunPlan {
  std::shared_ptr<const Model> model;
  bool demo_model = false;
  std::optional<std::int64_t> host_bytes;  // for experts; none: all are in host memory
  bool cuda = false;                       // on the CUDA device; else emulated, with:
  MachineProfile profile;
  std::optional<MachineProfile> calibrated;  // on CUDA: of this GPU and so many threads, where it was measured
  CostShape cost_shape;
  RunOptions options;
  RunMode mode = RunMode::generate;
  std::vector<PromptItem> prompts;  // with their token ids
  int tokens = 0;                   // to generate for each prompt
  int threads = 1;
  std::uint64_t shadow_exact = 0;  // tokens beside which the exact computation runs
  bool recorded = true;            // --profile hooks or cupti; false: off
  bool traces_gpu = false;         // --profile cupti: also what the device's own tracer sees
  std::vector<ScriptChange> script;
  std::vector<Expectation> expectations;
  std::vector<HealthNote> health;    // what the session is to say of these choices
  std::vector<std::string> notices;  // for standard error: what was chosen instead of what one might expect

  // Generated tokens of the whole run when no prompt ends early; 0 with --text, where nothing is generated.
  std::uint64_t planned_tokens() const;
};

// Throws InputError with the option or the file that is at fault.
RunPlan make_plan(const RunRequest&);

// The ids of a prompt, from its text where it has none. InputError when there is nothing to forward.
void fill_ids(PromptItem&, const Model&);

}  // namespace expertscope
