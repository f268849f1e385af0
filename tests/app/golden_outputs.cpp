#include "tests/app/golden_outputs.h"

#include <iostream>
#include <map>
#include <vector>

#include <gtest/gtest.h>

namespace expertscope::testing {
namespace {

using Json = nlohmann::ordered_json;

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
      std::cout << "[ near-tie ] token " << entry[0] << " is beyond the best " << kGoldenLogits << "\n";
      continue;
    }
    EXPECT_NEAR(found->second, wanted, kLogitTolerance) << "token " << entry[0];
  }
}

std::vector<std::int32_t> recorded_ids(const Batch& batch, std::uint32_t prompt) {
  std::vector<std::int32_t> ids;
  for (const TokenRecord& token : batch.tokens)
    if (token.prompt == prompt && !token.generated) ids.push_back(token.id);
  return ids;
}

void expect_routes(const RecordedRun& run, std::uint32_t prompt, const Json& expected) {
  std::uint32_t prefill_step = 0;  // the golden prompts fit into one
  for (const StepRecord& step : run.steps)
    if (step.prompt == prompt && step.phase == Phase::prefill) prefill_step = step.step;
  std::size_t compared = 0;
  for (const RouteRecord& route : run.routes) {
    if (route.step != prefill_step) continue;
    const auto wanted = expected[route.layer][route.token].get<std::vector<std::uint16_t>>();
    EXPECT_EQ(std::vector<std::uint16_t>(route.expert.begin(), route.expert.begin() + route.picks), wanted)
        << "layer " << route.layer << " token " << route.token;
    ++compared;
  }
  EXPECT_EQ(compared, expected.size() * expected[0].size());
}

}  // namespace

GoldenRun::GoldenRun(const std::string& session_path) {
  SessionReader reader(session_path);
  run = reader.read_recorded_run();
  batch = reader.read_all();
}

void expect_golden_prompt(const GoldenRun& golden, std::uint32_t prompt, const Json& expected, const Json& got) {
  EXPECT_EQ(recorded_ids(golden.batch, prompt), ids_of(expected["ids"]));
  EXPECT_EQ(ids_of(got["token_ids"]), ids_of(expected["greedy_ids"]));
  expect_logits(got["logits"], expected["last_logits_top"]);
  expect_routes(golden.run, prompt, expected["routes"]);
}

void expect_sound_report(const nlohmann::json& report) {
  for (const auto& [code, note] : report["health"].items()) {
    EXPECT_FALSE(code.starts_with("identity.")) << code << ": " << note["text"];
    EXPECT_NE(note["severity"], "loss") << code << ": " << note["text"];
  }
  double total = 0;
  for (const auto& [part, seconds] : report["attribution_seconds_per_token"].items()) total += seconds.get<double>();
  EXPECT_LT(report["attribution_seconds_per_token"]["remainder"].get<double>(), 0.01 * total);
}

}  // namespace expertscope::testing
