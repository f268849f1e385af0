// The small checkpoints of the other architectures through the whole program, against their references.
#include "tests/app/golden_outputs.h"
#include "tests/app/program.h"

namespace expertscope::testing {
namespace {

using Json = nlohmann::ordered_json;

struct Case {
  std::string architecture, preset, cache_ratio;
};

class GoldenArchitecture : public ProgramTest, public ::testing::WithParamInterface<Case> {};

std::string joined(const Json& ids) {
  std::string text;
  for (const Json& id : ids) text += (text.empty() ? "" : ",") + std::to_string(id.get<int>());
  return text;
}

TEST_P(GoldenArchitecture, GivesTheTokensLogitsAndExpertsOfTheReference) {
  const auto& [architecture, preset, ratio] = GetParam();
  const std::string stem = "model/tiny/tiny-" + architecture;
  const auto golden = Json::parse(read_text(asset(stem + ".golden.json")));
  for (const auto& [name, expected] : golden.items()) {
    SCOPED_TRACE(name);
    const auto report =
        capture(name + ".expertscope", {"--model", asset(stem + "-f32.gguf"), "--prompt-ids", joined(expected["ids"]),
                                        "--tokens", std::to_string(expected["greedy_ids"].size()), "--policy", preset,
                                        "--cache-ratio", ratio, "--record-logits", std::to_string(kGoldenLogits)});
    EXPECT_EQ(report["model"]["arch"], architecture);
    expect_golden_prompt(GoldenRun(path(name + ".expertscope")), 0, expected, report["output"]["prompts"][0]);
    expect_sound_report(report);
  }
}

INSTANTIATE_TEST_SUITE_P(EveryOne, GoldenArchitecture,
                         ::testing::Values(Case{"qwen3moe", "on-demand", "0.25"}, Case{"qwen3moe", "resident", "1"},
                                           Case{"olmoe", "on-demand", "0.25"}, Case{"olmoe", "resident", "1"}),
                         [](const auto& parameter) {
                           const std::string preset = parameter.param.preset == "resident" ? "resident" : "on_demand";
                           return parameter.param.architecture + "_" + preset;
                         });

}  // namespace
}  // namespace expertscope::testing
