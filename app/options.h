// The options that `capture` and the live workbench share, as the user gave them, and their declaration for the command
// line.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

namespace expertscope {

struct RunRequest {
  std::string model;       // "": the demo model
  std::string machine;     // "cuda", "emulated:NAME|PATH"; "": the default
  std::string cost_shape;  // "": mixtral-8x7b-q4 for the demo model, own for any other
  std::string policy = "on-demand";
  double cache_ratio = 0.25;
  std::optional<std::int64_t> cache_bytes;
  std::optional<std::int64_t> host_bytes;
  std::string prior;

  // At most one of these; none: the default prompt.
  std::optional<std::string> prompt;
  std::string prompt_ids, ids_file, prompts, text;

  bool forced = false;
  int tokens = 128;
  double temperature = 0, top_p = 1;
  std::uint64_t seed = 0;
  int sequences = 1;
  int threads = 0;      // 0: all cores
  std::string profile;  // "off", "hooks", "cupti"; "": the most there is
  bool stop_at_eos = false;
  std::string script;
  int shadow_exact = 0;
  std::optional<int> record_gates;
  int record_logits = 0;
  std::vector<std::string> expect;
};

void add_run_options(CLI::App&, RunRequest&);

// InputError for what this version cannot do yet, so that no option is ever ignored in silence.
void refuse_unsupported(const RunRequest&);

// Of the machine that the program runs on; what --threads defaults to.
int core_count();

// Validators with messages of our own: a number of [min, max], NaN refused.
CLI::Validator real_range(double min, double max);
CLI::Validator whole_range(std::int64_t min, std::int64_t max);

}  // namespace expertscope
