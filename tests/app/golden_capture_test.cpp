// The demo model through the whole program: whatever the policy and the cache, the eight golden prompts give the
// reference's tokens, logits, experts and continuations.
#include <algorithm>
#include <cmath>
#include <iostream>
#include <map>

#include "engine/policy/registry.h"
#include "storage/reader.h"
#include "tests/app/program.h"

namespace expertscope::testing {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kGreedyTokens = 48, kLogits = 16;
constexpr double kLogitTolerance = 1e-2;

struct Combination {
  std::string preset, cache_ratio;
};

std::vector<Combination> combinations() {
  std::vector<Combination> all;
  for (const PresetDecl& preset : preset_decls()) {
    if (preset.replay_only) continue;
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

std::vector<std::int32_t> ids_of(const Json& list) {
  return list.get<std::vector<std::int32_t>>();
}

// The 16 best may swap places where two logits lie closer together than the tolerance; each is compared by its id.
void expect_logits(const Json& got, const Json& expected) {
  std::map<int, double> by_id;
  for (const Json& entry : got) by_id[entry[0].get<int>()] = entry[1].get<double>();
  const double worst = expected.back()[1].get<double>();
  for (const Json& entry : expected) {
    const double wanted = entry[1].get<double>();
    const auto found = by_id.find(entry[0].get<int>());
    if (found == by_id.end()) {
      EXPECT_NEAR(wanted, worst, kLogitTolerance)
          << "token " << entry[0] << " is missing and was no near-tie for the last place";
      std::cout << "[ near-tie ] token " << entry[0] << " is beyond the best 16\n";
      continue;
    }
    EXPECT_NEAR(found->second, wanted, kLogitTolerance) << "token " << entry[0];
  }
}

TEST_P(GoldenCapture, GivesTheTokensLogitsAndExpertsOfTheReference) {
  const auto [preset, ratio] = GetParam();
  const auto report =
      capture("run.expertscope", {"--prompts", prompts_path_, "--tokens", std::to_string(kGreedyTokens), "--policy",
                                  preset, "--cache-ratio", ratio, "--record-logits", std::to_string(kLogits)});
  ASSERT_EQ(report["output"]["prompts"].size(), golden_.size());
  SessionReader reader(path("run.expertscope"));
  const RecordedRun run = reader.read_recorded_run();
  const Batch batch = reader.read_all();
  std::map<std::uint32_t, std::vector<std::int32_t>> prompt_ids;
  for (const TokenRecord& token : batch.tokens)
    if (!token.generated) prompt_ids[token.prompt].push_back(token.id);
  std::map<std::uint32_t, std::uint32_t> prefill_step;  // the golden prompts fit into one
  for (const StepRecord& step : run.steps)
    if (step.phase == Phase::prefill) prefill_step[step.prompt] = step.step;

  std::uint32_t prompt = 0;
  for (const auto& [name, expected] : golden_.items()) {
    SCOPED_TRACE(name);
    const Json got = report["output"]["prompts"][prompt];
    EXPECT_EQ(prompt_ids[prompt], ids_of(expected["ids"]));
    EXPECT_EQ(ids_of(got["token_ids"]), ids_of(expected["greedy_ids"]));
    expect_logits(got["logits"], expected["last_logits_top"]);
    std::size_t compared = 0;
    for (const RouteRecord& route : run.routes) {
      if (route.step != prefill_step[prompt]) continue;
      const auto wanted = expected["routes"][route.layer][route.token].get<std::vector<std::uint16_t>>();
      EXPECT_EQ(std::vector<std::uint16_t>(route.expert.begin(), route.expert.begin() + route.picks), wanted)
          << "layer " << route.layer << " token " << route.token;
      ++compared;
    }
    EXPECT_EQ(compared, expected["ids"].size() * expected["routes"].size());
    ++prompt;
  }

  for (const auto& [code, note] : report["health"].items()) {
    EXPECT_FALSE(code.starts_with("identity.")) << code << ": " << note["text"];
    EXPECT_NE(note["severity"], "loss") << code << ": " << note["text"];
  }
  double total = 0;
  for (const auto& [part, seconds] : report["attribution_seconds_per_token"].items()) total += seconds.get<double>();
  EXPECT_LT(report["attribution_seconds_per_token"]["remainder"].get<double>(), 0.01 * total);
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
