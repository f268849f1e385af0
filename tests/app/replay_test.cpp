// Replay of a recorded session: exactly itself under its own policies, and never better than the oracle under others.
#include <algorithm>
#include <set>

#include <gmock/gmock.h>
#include <sqlite3.h>

#include "engine/policy/registry.h"
#include "tests/app/program.h"

namespace expertscope::testing {
namespace {

using Json = nlohmann::json;

class Replay : public ProgramTest {
 protected:
  Json replay(const std::string& session, Arguments extra) const {
    Arguments arguments = {"replay", path(session), "--json"};
    arguments.insert(arguments.end(), extra.begin(), extra.end());
    const Outcome outcome = run_program(arguments);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return Json::parse(outcome.out, nullptr, false);
  }

  static void expect_same(Json result, Json recorded) {
    for (Json* block : {&result, &recorded}) {
      block->erase("policy");
      block->erase("label");
      (*block)["decode"].erase("label");
    }
    EXPECT_EQ(result, recorded);
  }
};

TEST_F(Replay, UnderItsOwnPolicyIsTheSessionItself) {
  for (const PresetDecl& preset : preset_decls()) {
    if (preset.replay_only) continue;
    SCOPED_TRACE(preset.name);
    const std::string ratio = preset.name == "resident" ? "1" : "0.25";
    const std::string policy(preset.name);
    const Json report = capture("a.expertscope", {"--policy", policy, "--cache-ratio", ratio, "--tokens", "32"});
    const Json replayed =
        replay("a.expertscope", {"--policies", "recorded," + policy, "--cache-ratios", "recorded," + ratio});
    ASSERT_EQ(replayed["results"].size(), 4u);
    EXPECT_EQ(replayed["recorded"]["experts"], report["experts"]);
    EXPECT_EQ(replayed["recorded"]["transfers"], report["transfers"]);
    EXPECT_EQ(replayed["recorded"]["decode"], report["decode"]);
    EXPECT_TRUE(replayed["skipped"].empty());
    for (const Json& result : replayed["results"]) {
      EXPECT_EQ(result["label"], "SIMULATED");
      expect_same(result, replayed["recorded"]);
    }
  }
}

TEST_F(Replay, OfSeveralEpochsGoesThroughThemInOrder) {
  const std::string script =
      write("script.json", R"([{"at_token": 9, "policy": "lookahead"}, {"at_token": 17, "cache_ratio": 0.5},
                                                      {"at_token": 25, "set": {"evictor": "lfu"}, "reset_cache": true}])");
  const std::string prompts = write("prompts.json", R"({"tale": ["Once upon a time", "The king had three sons"]})");
  capture("a.expertscope", {"--prompts", prompts, "--tokens", "20", "--script", script});
  const Json replayed = replay("a.expertscope", {"--policies", "recorded"});
  ASSERT_EQ(replayed["results"].size(), 1u);
  EXPECT_EQ(replayed["results"][0]["policy"], "recorded");
  expect_same(replayed["results"][0], replayed["recorded"]);
}

TEST_F(Replay, TheOracleCopiesNoMoreThanAnyPresetThatFetchesEveryDemand) {
  const std::string prompts =
      write("prompts.json", R"({"tale": ["Once upon a time", "The king had three sons"], "c": ["int main"]})");
  capture("a.expertscope", {"--prompts", prompts, "--tokens", "32"});
  for (const char* ratio : {"0.125", "0.25", "0.5", "1"}) {
    SCOPED_TRACE(ratio);
    const Json replayed =
        replay("a.expertscope", {"--policies", "on-demand,lfu,lookahead,belady", "--cache-ratios", ratio});
    const Json& oracle = replayed["results"].back();
    ASSERT_EQ(oracle["policy"], "belady");
    for (const Json& result : replayed["results"])
      EXPECT_LE(oracle["transfers"]["count"].get<int>(), result["transfers"]["count"].get<int>()) << result["policy"];
  }
}

TEST_F(Replay, AllListsEveryPresetAndSaysWhatWasLeftOutAndWhy) {
  capture("a.expertscope", {"--record-gates", "0"});
  const Json replayed = replay("a.expertscope", {"--policies", "all", "--cache-ratios", "0.25,1"});
  std::set<std::string> done;
  for (const Json& result : replayed["results"]) done.insert(result["policy"].get<std::string>());
  for (const char* preset : {"on-demand", "lfu", "static", "cpu-only", "split", "belady", "resident"})
    EXPECT_TRUE(done.contains(preset)) << preset;
  EXPECT_FALSE(done.contains("lookahead")) << "its gates were not recorded";
  bool resident_below_1 = false;
  for (const Json& skipped : replayed["skipped"]) {
    EXPECT_FALSE(skipped["why"].get<std::string>().empty());
    if (skipped["policy"] == "resident") resident_below_1 = skipped["cache_ratio"] == 0.25;
    if (skipped["policy"] == "lookahead") {
      EXPECT_THAT(skipped["why"].get<std::string>(), ::testing::HasSubstr("--record-gates"));
    }
  }
  EXPECT_TRUE(resident_below_1);
  EXPECT_EQ(replayed["results"].size() + replayed["skipped"].size(), 2 * preset_decls().size());
}

TEST_F(Replay, WhatWasAskedForByNameIsRefusedInsteadOfLeftOut) {
  capture("a.expertscope", {"--record-gates", "0"});
  expect_refused({"replay", path("a.expertscope"), "--policies", "lookahead", "--cache-ratios", "0.25"},
                 "--record-gates");
}

TEST_F(Replay, OnAnotherMachineHasItsSpeedAndTheSameRoutes) {
  capture("a.expertscope", {"--machine", "emulated:rtx4090-pcie4"});
  capture("b.expertscope", {"--machine", "emulated:a6000-pcie4"});
  const Json on_own = replay("a.expertscope", {"--policies", "recorded"})["results"][0];
  const Json on_other =
      replay("a.expertscope", {"--policies", "recorded", "--machine", "emulated:a6000-pcie4"})["results"][0];
  const Json other = replay("b.expertscope", {"--policies", "recorded"})["results"][0];
  EXPECT_EQ(on_other, other);
  EXPECT_NE(on_own["decode"]["tokens_per_s"], other["decode"]["tokens_per_s"]);
  expect_refused({"replay", path("a.expertscope"), "--policies", "recorded", "--machine", "cuda"}, "--machine");
  expect_refused({"replay", path("a.expertscope"), "--policies", "recorded", "--machine", "emulated:x"}, "a6000-pcie4");
}

TEST_F(Replay, OfASessionThatLostRoutesSaysHowFarItWent) {
  capture("a.expertscope", {"--tokens", "16"});
  EXPECT_TRUE(replay("a.expertscope", {"--policies", "lfu"})["health"].empty());
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open(path("a.expertscope").c_str(), &database), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(database, "DELETE FROM route WHERE step = 9 AND layer = 3", nullptr, nullptr, nullptr),
            SQLITE_OK);
  ASSERT_EQ(sqlite3_changes(database), 1);
  sqlite3_close(database);
  const Json replayed = replay("a.expertscope", {"--policies", "lfu"});
  const Json& note = replayed["health"]["replay.incomplete"];
  EXPECT_EQ(note["severity"], "loss");
  EXPECT_EQ(note["count"], 16 - 9);
  EXPECT_THAT(note["text"].get<std::string>(), ::testing::HasSubstr("Routes of step 9"));
  EXPECT_EQ(replayed["recorded"]["decode"]["tokens"], replayed["results"][0]["decode"]["tokens"]);
  EXPECT_EQ(replayed["recorded"]["decode"]["tokens"], 8);
  const Outcome outcome = run_program({"replay", path("a.expertscope"), "--policies", "lfu"});
  EXPECT_THAT(outcome.out, ::testing::HasSubstr("replay.incomplete (loss)"));
}

// A real machine records the gates that its policy uses, and no more unless asked to.
TEST_F(Replay, OfItsOwnPoliciesNeedsNoGatesBeyondThoseTheyUsed) {
  const std::string script =
      write("script.json", R"([{"at_token": 8, "policy": "lookahead"}, {"at_token": 16, "policy": "lfu"}])");
  capture("a.expertscope", {"--tokens", "24", "--record-gates", "0", "--script", script});
  const Json replayed = replay("a.expertscope", {"--policies", "recorded"});
  ASSERT_EQ(replayed["results"].size(), 1u);
  expect_same(replayed["results"][0], replayed["recorded"]);
  expect_refused({"replay", path("a.expertscope"), "--policies", "lookahead"}, "--record-gates");
}

TEST_F(Replay, PrintsATableForPeople) {
  capture("a.expertscope", {});
  const Outcome outcome =
      run_program({"replay", path("a.expertscope"), "--policies", "on-demand,lfu", "--cache-ratios", "0.25"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, ::testing::AllOf(::testing::HasSubstr("SIMULATED"), ::testing::HasSubstr("lfu"),
                                            ::testing::HasSubstr("tok/s")));
}

}  // namespace
}  // namespace expertscope::testing
