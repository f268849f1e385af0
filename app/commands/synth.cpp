#include "app/commands/synth.h"

#include <chrono>
#include <cstdio>
#include <functional>
#include <memory>

#include <fmt/format.h>

#include "app/options.h"
#include "app/progress_line.h"
#include "app/stop_signal.h"
#include "engine/synth/synth_model.h"

namespace expertscope {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  std::string shape, type, routing, out;
  std::uint64_t seed = 0;
  std::int64_t tokens = SynthRequest::kMinStreamTokens;
};

double gigabytes(std::int64_t bytes) {
  return static_cast<double>(bytes) / 1e9;
}

// A line on a terminal's standard error; says whether to go on.
class WriteProgress {
 public:
  ~WriteProgress() {
    if (visible_) std::fputs("\r\033[K", stderr);
  }
  bool operator()(std::int64_t done, std::int64_t all) {
    if (is_terminal_ && Clock::now() >= next_) {
      next_ = Clock::now() + std::chrono::milliseconds(200);
      std::fputs(fmt::format("\r\033[K{:.1f} of {:.1f} GB", gigabytes(done), gigabytes(all)).c_str(), stderr);
      visible_ = true;
    }
    return stop_signal() == 0;
  }

 private:
  bool is_terminal_ = stderr_is_terminal(), visible_ = false;
  Clock::time_point next_;
};

std::string describe(const SynthPaths& paths, const SynthRequest& request, const SynthResult& result, double seconds) {
  const RoutingStatistics& r = result.routing;
  return fmt::format(
      "{}\n  {:.2f} GB in {:.1f} s ({:.1f} GB/s)\n"
      "{}\n  {} token ids; of a token's experts {:.0f} % were the token before's, the most popular tenth of a layer's "
      "experts has {:.0f} % of the picks\n"
      "{}\n  where the first tokens go, and how often experts come back\n"
      "Try: expertscope capture --model {} --ids-file {} --forced --tokens 512 --out FILE\n",
      paths.model.string(), gigabytes(result.file_bytes), seconds, gigabytes(result.file_bytes) / seconds,
      paths.ids.string(), request.stream_tokens, r.next_token_overlap * 100, r.top_10_percent_share * 100,
      paths.routing.string(), paths.model.string(), paths.ids.string());
}

int run_synth(const Options& options) {
  const SynthRequest request{.shape = find_synth_shape(options.shape),
                             .type = find_synth_type(options.type),
                             .routing = find_synth_routing(options.routing),
                             .seed = options.seed,
                             .stream_tokens = options.tokens};
  const SynthPaths paths = synth_paths(options.out);
  const auto start = Clock::now();
  const SynthResult result = [&] {
    WriteProgress progress;
    return write_synthetic_model(request, paths, core_count(), std::ref(progress));
  }();
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  print(describe(paths, request, result, seconds));
  return kExitDone;
}

}  // namespace

void add_synth(CLI::App& program, Action& action) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand(
      "synth", "Write a GGUF file of a model's true shape: random weights whose routing has a chosen locality");
  command->add_option("--shape", options->shape, "tiny, mixtral-8x7b, qwen3-30b-a3b or olmoe-1b-7b")
      ->type_name("NAME")
      ->required();
  command->add_option("--type", options->type, "Of its matrices: q8_0, q4_0, q4_k, q5_k, q6_k, f16 or bf16")
      ->type_name("TYPE")
      ->required();
  command
      ->add_option("--routing", options->routing,
                   "uniform: every expert equally often; zipf: some experts are always popular; bursty: others are, in "
                   "each passage of the text; drift: bursty, and half-way all are replaced")
      ->type_name("NAME")
      ->required();
  command->add_option("--out", options->out, "FILE.gguf to write; FILE.ids.json, the text, comes beside it")
      ->type_name("FILE")
      ->required();
  command->add_option("--seed", options->seed, "Of all that is random [0]")->type_name("N");
  command->add_option("--tokens", options->tokens, "Length of the text [4096]")
      ->type_name("N")
      ->check(whole_range(SynthRequest::kMinStreamTokens, 1 << 24));
  command->callback([&action, options] { action = [options] { return run_synth(*options); }; });
}

}  // namespace expertscope
