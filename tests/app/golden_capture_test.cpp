// The demo model through the whole program: whatever the policy and the cache, the eight golden prompts give the
// reference's tokens, logits, experts and continuations.
#include <algorithm>

#include "engine/policy/registry.h"
#include "tests/app/golden_outputs.h"
#include "tests/app/program.h"

namespace expertscope::testing {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kGreedyTokens = 48;

struct Combination {
  std::string preset, cache_ratio;
};

std::vector<Combination> combinations() {
  std::vector<Combination> all;
  for (const PresetDecl& preset : preset_decls()) {
    if (preset.replay_only || !preset.exact) continue;
    for (const char* ratio : {"0.125", "0.5", "1"})
      if (preset.name != "resident" || std::string(ratio) == "1") all.push_back({std::string(preset.name), ratio});
  }
  return all;
}

class GoldenCapture : public ProgramTest, public ::testing::WithParamInterface<Combination> {
 protected:
  GoldenCapture() : golden_(Json::parse(read_text(asset("model/tidepool-42m-moe.golden.json")))) {
    Json prompts = Json::object();
    for (const auto& [name, expected] : golden_.items()) prompts[name] = {expected["prompt"]};
    prompts_path_ = write("prompts.json", prompts.dump());
  }

  Json golden_;
  std::string prompts_path_;
};

TEST_P(GoldenCapture, GivesTheTokensLogitsAndExpertsOfTheReference) {
  const auto [preset, ratio] = GetParam();
  const auto report =
      capture("run.expertscope", {"--prompts", prompts_path_, "--tokens", std::to_string(kGreedyTokens), "--policy",
                                  preset, "--cache-ratio", ratio, "--record-logits", std::to_string(kGoldenLogits)});
  ASSERT_EQ(report["output"]["prompts"].size(), golden_.size());
  const GoldenRun run(path("run.expertscope"));
  std::uint32_t prompt = 0;
  for (const auto& [name, expected] : golden_.items()) {
    SCOPED_TRACE(name);
    expect_golden_prompt(run, prompt, expected, report["output"]["prompts"][prompt]);
    ++prompt;
  }
  expect_sound_report(report);
}

INSTANTIATE_TEST_SUITE_P(EveryPresetAndRatio, GoldenCapture, ::testing::ValuesIn(combinations()),
                         [](const auto& parameter) {
                           std::string name = parameter.param.preset + "_at_" + parameter.param.cache_ratio;
                           std::replace_if(
                               name.begin(), name.end(), [](char c) { return c == '-' || c == '.'; }, '_');
                           return name;
                         });

}  // namespace
}  // namespace expertscope::testing
