#include "app/options.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <thread>

#include <fmt/format.h>

#include "engine/error.h"
#include "engine/observer.h"

namespace expertscope {
namespace {

constexpr int kMaxTokens = 10'000'000;
constexpr int kMaxThreads = 1024;
constexpr int kMaxRecordedLogits = 1024;
constexpr std::int64_t kMaxBytes = std::int64_t{1} << 50;

// CLI11 takes 'nan', hexadecimal and surrounding text in numbers; from_chars does not.
template <typename T>
std::optional<T> parse_number(const std::string& text) {
  T value{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || stop != end) return std::nullopt;
  return value;
}

void add_workload_options(CLI::App& app, RunRequest& request) {
  auto* prompt = app.add_option("--prompt", request.prompt,
                                "Prompt to continue; never parsed for special tokens [a tale of the demo prompts]")
                     ->type_name("TEXT");
  auto* ids =
      app.add_option("--prompt-ids", request.prompt_ids, "Prompt as token ids, no BOS added")->type_name("1,75,104");
  auto* ids_file = app.add_option("--ids-file", request.ids_file, "Prompt as a JSON list of token ids, no BOS added")
                       ->type_name("FILE");
  auto* prompts = app.add_option("--prompts", request.prompts,
                                 "Prompts, run in file order: a JSON object of lists {\"workload\": [\"prompt\", "
                                 "...]}, or one prompt a line")
                      ->type_name("FILE");
  auto* text = app.add_option("--text", request.text,
                              "Text to be read, teacher-forced, nothing generated; reports its perplexity")
                   ->type_name("FILE");
  const std::vector<CLI::Option*> workloads = {prompt, ids, ids_file, prompts, text};
  for (CLI::Option* a : workloads)
    for (CLI::Option* b : workloads)
      if (a != b) a->excludes(b);
  auto* forced =
      app.add_flag("--forced", request.forced, "Decode along the given ids one token at a time instead of sampling");
  forced->excludes(text);
  app.add_option("--tokens", request.tokens, "Tokens to generate for each prompt, 1 to 10,000,000 [128]")
      ->type_name("N")
      ->check(whole_range(1, kMaxTokens));
  app.add_option("--temperature", request.temperature, "Sampling temperature, 0 to 100; 0 takes the best token [0]")
      ->type_name("T")
      ->check(real_range(0, 100));
  app.add_option("--top-p", request.top_p, "Draw from the smallest set of tokens with this share, above 0 to 1 [1]")
      ->type_name("P")
      ->check(real_range(1e-6, 1));
  app.add_option("--seed", request.seed, "Seed of the draws, 0 to 2^63-1 [0]")
      ->type_name("N")
      ->check(whole_range(0, std::numeric_limits<std::int64_t>::max()));
  app.add_option("--sequences", request.sequences, "Prompts decoded together; a step gives each of them a token [1]")
      ->type_name("N")
      ->check(whole_range(1, 1024));
  app.add_flag("--stop-at-eos", request.stop_at_eos,
               "Stop a prompt at the end-of-sequence token [off: exactly N tokens]");
}

void add_machine_options(CLI::App& app, RunRequest& request) {
  app.add_option("--model", request.model, "GGUF file of a mixture-of-experts model [the demo model]")
      ->type_name("PATH");
  app.add_option("--machine", request.machine,
                 "cuda, or emulated:PROFILE with the name of a shipped profile or the path of a file [cuda when there "
                 "is a device, else "
                 "emulated:rtx4090-pcie4]")
      ->type_name("MACHINE");
  app.add_option("--cost-shape", request.cost_shape,
                 "Model whose bytes and operations an emulated machine charges, or own [mixtral-8x7b-q4 for the demo "
                 "model, else own]")
      ->type_name("NAME");
  app.add_option("--host-bytes", request.host_bytes,
                 "Bound of the host's expert memory in bytes: the others are read from storage [none]")
      ->type_name("N")
      ->check(whole_range(0, kMaxBytes));
  app.add_option("--threads", request.threads, "CPU threads, 1 to 1024; never changes a result [all cores]")
      ->type_name("N")
      ->check(whole_range(1, kMaxThreads));
}

void add_policy_options(CLI::App& app, RunRequest& request) {
  app.add_option("--policy", request.policy,
                 "PRESET[:component=name,component.parameter=value,...], see `expertscope policies` [on-demand]")
      ->type_name("SPEC");
  auto* ratio = app.add_option("--cache-ratio", request.cache_ratio,
                               "Share of the routed experts' bytes kept on the GPU, 0 to 1 [0.25]")
                    ->type_name("R")
                    ->check(real_range(0, 1));
  app.add_option("--cache-bytes", request.cache_bytes, "The same as bytes of the cost shape")
      ->type_name("N")
      ->check(whole_range(0, kMaxBytes))
      ->excludes(ratio);
  app.add_option("--prior", request.prior, "What a policy knows before it starts, a JSON file [none]")
      ->type_name("FILE");
}

void add_recording_options(CLI::App& app, RunRequest& request) {
  app.add_option(
         "--profile", request.profile,
         "What is recorded: off, hooks (what the engine says), or cupti (and what the GPU's own tracer sees) [the "
         "most there is: cupti on a CUDA device, else hooks]")
      ->type_name("LEVEL")
      ->check(CLI::Validator(
          [](std::string& level) {
            return level == "off" || level == "hooks" || level == "cupti"
                       ? std::string()
                       : "must be off, hooks or cupti, not '" + level + "'";
          },
          ""));
  app.add_option("--script", request.script,
                 "Changes at token numbers: [{\"at_token\": 12, \"policy\": \"lfu\"}, {\"at_token\": 24, "
                 "\"cache_ratio\": 0.5}, {\"at_token\": 36, "
                 "\"set\": {\"prefetcher.depth\": 2}}]")
      ->type_name("FILE");
  app.add_option("--shadow-exact", request.shadow_exact,
                 "Run the exact computation beside the first N generated tokens of the run (with --text, the first N "
                 "scored ones) and report KL divergence and top-1 agreement; on a GPU it computes on the CPU between "
                 "the steps, which slows the run, not its steps [0]")
      ->type_name("N")
      ->check(whole_range(0, kMaxTokens));
  app.add_option(
         "--record-gates", request.record_gates,
         "Gates of that many coming layers to record, 0 to 3 [3 on an emulated machine, on CUDA what the policy uses]")
      ->type_name("N")
      ->check(whole_range(0, kMaxLookahead));
  app.add_option("--record-logits", request.record_logits,
                 "Best logits of each prompt's last position to record, 0 to 1024 [0]")
      ->type_name("N")
      ->check(whole_range(0, kMaxRecordedLogits));
  app.add_option("--expect", request.expect,
                 "What a number of the report must be, such as 'decode.tokens_per_s >= 20'; may be repeated")
      ->type_name("EXPR")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

}  // namespace

CLI::Validator real_range(double min, double max) {
  return CLI::Validator(
      [min, max](std::string& text) {
        const auto value = parse_number<double>(text);
        if (value && *value >= min && *value <= max) return std::string();
        return fmt::format("must be a number from {} to {}, not '{}'", min, max, text);
      },
      "");
}

CLI::Validator whole_range(std::int64_t min, std::int64_t max) {
  return CLI::Validator(
      [min, max](std::string& text) {
        const auto value = parse_number<std::int64_t>(text);
        if (value && *value >= min && *value <= max) return std::string();
        return fmt::format("must be a whole number from {} to {}, not '{}'", min, max, text);
      },
      "");
}

void add_run_options(CLI::App& app, RunRequest& request) {
  add_machine_options(app, request);
  add_policy_options(app, request);
  add_workload_options(app, request);
  add_recording_options(app, request);
}

void refuse_unsupported(const RunRequest& request) {
  if (request.sequences > 1 && !request.text.empty())
    throw InputError("--sequences: with --text nothing is decoded, one text is read; leave one of the options out");
}

int core_count() {
  return std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, kMaxThreads);
}

}  // namespace expertscope
