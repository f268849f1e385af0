// Tokens per second that the arithmetic of the demo model alone reaches, for decode and for prompts, by threads.
#include <benchmark/benchmark.h>

#include "engine/model/sampler.h"
#include "tests/engine/model/demo_model.h"
#include "tests/engine/model/forward_pass.h"

namespace expertscope {
namespace {

// Ids of the workloads' texts, one after the other: real text, so that tokens share experts as they do in use.
const std::vector<std::int32_t>& text_ids() {
  static const std::vector<std::int32_t> ids = [] {
    const auto texts = nlohmann::json::parse(std::ifstream(std::string(ES_ASSETS_DIR) + "/model/workloads.json"));
    std::vector<std::int32_t> all;
    for (const auto& [workload, list] : texts.items()) {
      for (const auto& text : list) {
        const auto part = demo_model().tokenizer().encode(text.get<std::string>());
        all.insert(all.end(), part.begin(), part.end());
      }
    }
    return all;
  }();
  return ids;
}

void Decode(benchmark::State& state) {
  constexpr int kTokens = 128;
  ThreadPool pool(static_cast<int>(state.range(0)));
  ModelSteps forward(demo_model(), pool);
  const std::vector<std::int32_t> prompt(text_ids().begin(), text_ids().begin() + 32);
  for (auto _ : state) {
    state.PauseTiming();
    forward.arithmetic().reset_sequence(0);
    forward.picks.clear();
    forward.step(prompt);
    state.ResumeTiming();
    for (int i = 0; i < kTokens; ++i) {
      const std::int32_t next = greedy_token(forward.logits());
      forward.step(std::span(&next, 1));
    }
  }
  state.counters["tokens/s"] =
      benchmark::Counter(static_cast<double>(state.iterations() * kTokens), benchmark::Counter::kIsRate);
}

void Prompt(benchmark::State& state) {
  const auto tokens = static_cast<std::size_t>(state.range(1));
  ThreadPool pool(static_cast<int>(state.range(0)));
  ModelSteps forward(demo_model(), pool);
  std::size_t from = 0;
  for (auto _ : state) {
    forward.arithmetic().reset_sequence(0);
    forward.picks.clear();
    forward.step(std::span(text_ids()).subspan(from, tokens));
    from = (from + tokens) % (text_ids().size() - tokens);
  }
  state.counters["tokens/s"] = benchmark::Counter(static_cast<double>(state.iterations()) * static_cast<double>(tokens),
                                                  benchmark::Counter::kIsRate);
}

void Load(benchmark::State& state) {
  for (auto _ : state) {
    const Model model(kDemoModelPath);
    benchmark::DoNotOptimize(model.total_bytes());
  }
}

BENCHMARK(Decode)->ArgName("threads")->Arg(1)->Arg(2)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(Prompt)
    ->ArgNames({"threads", "tokens"})
    ->ArgsProduct({{1, 2}, {16, 64, 256, 1024}})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(Load)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace expertscope

BENCHMARK_MAIN();
