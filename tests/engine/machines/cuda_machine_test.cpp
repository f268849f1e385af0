// The CUDA machine against the reference and against the CPU. Skipped where there is no device.
#include <cmath>
#include <filesystem>
#include <numeric>

#include <gtest/gtest.h>

#include "engine/synth/synth_model.h"
#include "tests/engine/machines/cuda_run.h"
#include "tests/engine/model/demo_model.h"

namespace expertscope {
namespace {

constexpr int kChunk = kCudaChunk;

// Identifiers and best logits of a prompt on the CPU.
struct Expected {
  std::vector<std::int32_t> tokens;
  LogitsRecord logits;
};
Expected on_cpu(const Model& model, const PromptItem& prompt, int tokens) {
  ThreadPool pool(2);
  Arithmetic arithmetic(model, pool, kChunk, 1);
  const auto machine = make_emulated_machine(load_profile("h100-pcie5"), own_shape(model),
                                             run_shape(model.description(), kChunk), &model, &arithmetic);
  RecordedEvents events;
  RunOptions options;
  options.policy = parse_policy_spec("on-demand");
  options.prefill_chunk = kChunk;
  options.record_logits = 16;
  Runner runner(model, *machine, &events, options);
  Expected expected;
  expected.tokens = runner.run_prompt(prompt, tokens);
  expected.logits = events.logits.at(0);
  return expected;
}

const std::vector<std::string> kPolicies = {"on-demand", "lfu", "static", "cpu-only", "split", "lookahead"};

void expect_golden(CudaRun& run, const std::string& what) {
  std::size_t prompt = run.events.logits.size();
  for (const auto& [name, golden] : golden_outputs().items()) {
    SCOPED_TRACE(what + ", " + name);
    EXPECT_EQ(run.runner->run_prompt({"", golden["prompt"].get<std::string>(), {}}, 48),
              golden["greedy_ids"].get<std::vector<std::int32_t>>());
    const LogitsRecord& logits = run.events.logits.at(prompt++);
    for (std::size_t i = 0; i < 16; ++i)
      EXPECT_NEAR(logits.best[i].second, golden["last_logits_top"][i][1].get<float>(), 2e-2);
  }
}

TEST(CudaMachine, GivesTheGoldenTokensAndLogitsUnderEveryPolicyAndCacheRatio) {
  NEEDS_DEVICE();
  for (const std::string& policy : kPolicies) {
    for (const double ratio : {0.0, 0.125, 0.5, 1.0}) {
      CudaRun run(demo_model(), policy, ratio);
      expect_golden(run, policy + " at " + std::to_string(ratio));
    }
  }
  CudaRun run(demo_model(), "resident", 1);
  expect_golden(run, "resident");
}

// Checkpoints of the other architectures, in float32.
TEST(CudaMachine, GivesTheGoldenTokensAndLogitsOfSmallCheckpoints) {
  NEEDS_DEVICE();
  for (const std::string architecture : {"olmoe", "qwen3moe"}) {
    const std::string path = std::string(ES_ASSETS_DIR) + "/model/tiny/tiny-" + architecture;
    const Model model(path + "-f32.gguf");
    const nlohmann::json all = nlohmann::json::parse(std::ifstream(path + ".golden.json"));
    for (const std::string policy : {"on-demand", "split", "cpu-only", "resident"}) {
      CudaRun run(model, policy, policy == "resident" ? 1 : 0.25);
      std::size_t prompt = 0;
      for (const auto& [name, golden] : all.items()) {
        SCOPED_TRACE(architecture + ", " + policy + ", " + name);
        const auto greedy = golden["greedy_ids"].get<std::vector<std::int32_t>>();
        EXPECT_EQ(run.runner->run_prompt({"", "", golden["ids"].get<std::vector<std::int32_t>>()},
                                         static_cast<int>(greedy.size())),
                  greedy);
        const LogitsRecord& logits = run.events.logits.at(prompt++);
        for (std::size_t i = 0; i < 16; ++i)
          EXPECT_NEAR(logits.best[i].second, golden["last_logits_top"][i][1].get<float>(), 2e-2);
      }
    }
  }
}

TEST(CudaMachine, ChangingPolicyAndCacheSizeWhileTokensFlowChangesNoToken) {
  NEEDS_DEVICE();
  CudaRun run(demo_model(), "on-demand", 0.5);
  std::uint64_t random = 1;
  run.runner->set_boundary_hook([&](std::uint32_t, TimeNs) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    const auto draw = static_cast<std::uint32_t>(random >> 33);
    if (draw % 3 == 0)
      run.runner->apply({.kind = CommandKind::set_policy, .text = kPolicies[draw / 3 % kPolicies.size()]});
    if (draw % 5 == 0)
      run.runner->apply({.kind = CommandKind::set_cache_ratio, .text = "", .value = (draw / 5 % 9) / 8.0});
    if (draw % 11 == 0) run.runner->apply({.kind = CommandKind::reset_cache, .text = ""});
    return true;
  });
  expect_golden(run, "changing");
}

// Largest difference of the 16 best logits, as a share of their spread.
double difference(const LogitsRecord& a, const LogitsRecord& b) {
  double worst = 0;
  const double spread = std::abs(static_cast<double>(a.best.front().second - a.best.back().second)) + 1;
  for (const auto& [id, logit] : a.best) {
    for (const auto& [other, its] : b.best) {
      if (id == other) worst = std::max(worst, std::abs(static_cast<double>(logit - its)) / spread);
    }
  }
  return worst;
}

class CudaTypes : public testing::TestWithParam<std::tuple<TensorType, int>> {};

// A single token, which has kernels of its own; a prompt short enough for float32, and one that takes the tensor cores.
TEST_P(CudaTypes, SayWhatTheCpuSays) {
  NEEDS_DEVICE();
  const auto [type, prompt_tokens] = GetParam();
  const auto folder = std::filesystem::temp_directory_path() / "expertscope-cuda-types";
  std::filesystem::create_directories(folder);
  const SynthPaths paths = synth_paths(folder / ("tiny-" + std::string(name(type)) + ".gguf"));
  SynthRequest request;
  request.shape = find_synth_shape("tiny");
  request.type = type;
  write_synthetic_model(request, paths, 4, [](std::int64_t, std::int64_t) { return true; });
  const Model model(paths.model);
  PromptItem prompt;
  for (int i = 0; i < prompt_tokens; ++i) prompt.ids.push_back(300 + i * 37 % 200);
  const Expected expected = on_cpu(model, prompt, 8);
  for (const char* policy : {"on-demand", "cpu-only", "resident"}) {
    SCOPED_TRACE(policy);
    CudaRun run(model, policy, policy == std::string("resident") ? 1 : 0.25);
    EXPECT_EQ(run.runner->run_prompt(prompt, 8)[0], expected.tokens[0]);
    EXPECT_LT(difference(expected.logits, run.events.logits.at(0)), prompt_tokens == 1   ? 3e-3
                                                                    : prompt_tokens < 64 ? 1e-3
                                                                                         : 1e-2);
  }
  std::filesystem::remove_all(folder);
}

INSTANTIATE_TEST_SUITE_P(EveryType, CudaTypes,
                         testing::Combine(testing::Values(TensorType::f16, TensorType::bf16, TensorType::q8_0,
                                                          TensorType::q4_0, TensorType::q4_k, TensorType::q5_k,
                                                          TensorType::q6_k),
                                          testing::Values(1, 20, 300)),
                         [](const auto& type) {
                           return std::string(name(std::get<0>(type.param))) + "_" +
                                  std::to_string(std::get<1>(type.param)) + "_tokens";
                         });

}  // namespace
}  // namespace expertscope
