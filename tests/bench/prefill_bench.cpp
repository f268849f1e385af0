// How fast prompts are read on the CUDA device: tokens per second of prefill by prompt length and cache ratio, the
// cache as the prompt before left it.
//
//     prefill_bench MODEL.gguf IDS.json POLICY REPEATS RATIO...
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <thread>

#include <nlohmann/json.hpp>

#include "engine/machines/cuda_machine.h"
#include "engine/run/runner.h"

using namespace expertscope;

namespace {

constexpr int kLengths[] = {512, 2048};

// Repeats read different stretches of the text, as long as there are any.
PromptItem prompt_of(const std::vector<std::int32_t>& text, int length, int repeat) {
  const std::size_t places = text.size() / static_cast<std::size_t>(length);
  const std::size_t first = static_cast<std::size_t>(repeat) % places * static_cast<std::size_t>(length);
  PromptItem prompt;
  prompt.ids.assign(text.begin() + static_cast<std::ptrdiff_t>(first),
                    text.begin() + static_cast<std::ptrdiff_t>(first) + length);
  return prompt;
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 6) return std::fprintf(stderr, "prefill_bench MODEL.gguf IDS.json POLICY REPEATS RATIO...\n"), 2;
  const Model model(arguments[1]);
  const auto text = nlohmann::json::parse(std::ifstream(arguments[2])).get<std::vector<std::int32_t>>();
  const int repeats = std::atoi(arguments[4]);
  ThreadPool pool(static_cast<int>(std::thread::hardware_concurrency()));
  const auto machine = make_cuda_machine(model, pool, {.max_step_tokens = 2048});
  RunOptions options;
  options.policy = parse_policy_spec(arguments[3]);
  options.cache_ratio = std::atof(arguments[5]);
  options.prefill_chunk = 2048;
  options.record_gates = 0;
  Runner runner(model, *machine, nullptr, options);
  for (int i = 5; i < count; ++i) {
    if (i > 5) runner.apply({.kind = CommandKind::set_cache_ratio, .text = "", .value = std::atof(arguments[i])});
    runner.run_prompt(prompt_of(text, 2048, 0), 1);  // so that the slots are full
    for (const int length : kLengths) {
      std::vector<double> rates;
      for (int repeat = 0; repeat < repeats; ++repeat) {
        const TimeNs begin = machine->now();
        runner.run_prompt(prompt_of(text, length, 1 + repeat), 1);
        rates.push_back(length * 1e9 / static_cast<double>(machine->now() - begin));
      }
      std::ranges::sort(rates);
      std::printf("%s at %s, %4d tokens: %.0f tokens/s (%.0f to %.0f)\n", arguments[3], arguments[i], length,
                  rates[rates.size() / 2], rates.front(), rates.back());
      std::fflush(stdout);
    }
  }
  return 0;
}
