// The demo model through runner, executor, policy and emulated machine must say what its reference says, whatever the
// policy and the cache size: policies change when and where work happens, never what comes out.
#include <gtest/gtest.h>

#include "engine/error.h"
#include "tests/engine/emulated_run.h"

namespace expertscope {
namespace {

const std::vector<std::string> kPolicies = {"on-demand",
                                            "lfu",
                                            "static",
                                            "cpu-only",
                                            "split",
                                            "lookahead",
                                            "on-demand:capacity=global",
                                            "lookahead:prefetcher.depth=3,capacity=global"};

void expect_golden(const std::string& policy, double ratio) {
  EmulatedRun run(policy, ratio);
  run.options.record_logits = 16;
  std::uint32_t prompt = 0;
  for (const auto& [name, golden] : golden_outputs().items()) {
    SCOPED_TRACE(policy + " at " + std::to_string(ratio) + ", " + name);
    const auto ids = golden["ids"].get<std::vector<std::int32_t>>();
    EXPECT_EQ(run.runner().tokenize(golden["prompt"].get<std::string>()), ids);
    const std::uint32_t first_step = run.events.steps.empty() ? 0 : run.events.steps.back().step + 1;
    EXPECT_EQ(run.generate(golden["prompt"].get<std::string>(), 48),
              golden["greedy_ids"].get<std::vector<std::int32_t>>());
    const LogitsRecord& logits = run.events.logits.at(prompt);
    for (std::size_t i = 0; i < 16; ++i)
      EXPECT_NEAR(logits.best[i].second, golden["last_logits_top"][i][1].get<float>(), 1e-2);
    for (const RouteRecord& r : run.events.routes) {
      if (r.step != first_step) continue;
      const auto expected = golden["routes"][r.layer][r.token].get<std::vector<std::uint16_t>>();
      EXPECT_EQ(std::vector<std::uint16_t>(r.expert.begin(), r.expert.begin() + r.picks), expected)
          << "layer " << r.layer << " token " << r.token;
    }
    ++prompt;
  }
}

// The arithmetic is the same in every run; builds with sanitizers take one ratio, at which all kinds of outcomes occur.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
const std::vector<double> kRatios = {0.125};
#else
const std::vector<double> kRatios = {0.0, 0.125, 0.5, 1.0};
#endif

TEST(GoldenRun, EveryPolicyAtEveryCacheRatioGivesTheGoldenTokensRoutesAndLogits) {
  for (const std::string& policy : kPolicies) {
    for (double ratio : kRatios) expect_golden(policy, ratio);
  }
  expect_golden("resident", 1);
}

TEST(GoldenRun, ChangingPolicyAndCacheSizeWhileTokensFlowChangesNoToken) {
  EmulatedRun run("on-demand", 0.5);
  std::uint64_t random = 1;
  run.runner().set_boundary_hook([&](std::uint32_t, TimeNs) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    const auto draw = static_cast<std::uint32_t>(random >> 33);
    if (draw % 3 == 0)
      run.runner().apply({.kind = CommandKind::set_policy, .text = kPolicies[draw / 3 % kPolicies.size()]});
    if (draw % 5 == 0)
      run.runner().apply({.kind = CommandKind::set_cache_ratio, .text = "", .value = (draw / 5 % 9) / 8.0});
    if (draw % 11 == 0) run.runner().apply({.kind = CommandKind::reset_cache, .text = ""});
    return true;
  });
  for (const auto& [name, golden] : golden_outputs().items()) {
    EXPECT_EQ(run.generate(golden["prompt"].get<std::string>(), 48),
              golden["greedy_ids"].get<std::vector<std::int32_t>>())
        << name;
  }
  EXPECT_GT(run.events.epochs.size(), 100U);
}

TEST(GoldenRun, ARunThatFillsTheContextGoesOnFromItsLastHalf) {
  EmulatedRun run("on-demand", 0.25);
  const auto ids = run.generate(kTale, 1100);
  EXPECT_EQ(ids.size(), 1100U);
  std::uint64_t shifts = 0;
  for (const HealthNote& n : run.events.health) shifts += n.code == "context.shifted" ? n.count : 0;
  EXPECT_EQ(shifts, 1U);
}

TEST(GoldenRun, TokensThatAreForcedAreTheOnesThatComeOut) {
  EmulatedRun run("on-demand", 0.25);
  const std::vector<std::int32_t> ids = {1, 1157, 2172, 271, 3476, 7766};
  run.runner().run_forced({.workload = "", .text = "", .ids = ids}, 128);
  std::vector<std::int32_t> out;
  for (const TokenRecord& t : run.events.tokens) {
    if (t.generated) out.push_back(t.id);
  }
  EXPECT_EQ(out, (std::vector<std::int32_t>{1157, 2172, 271, 3476, 7766}));
  EXPECT_EQ(run.events.steps.size(), 5U);  // one prefill, four decode steps
}

TEST(GoldenRun, TeacherForcingScoresEachTokenOnce) {
  EmulatedRun run("on-demand", 0.25);
  const auto& golden = golden_outputs()["tale"];
  run.runner().run_text({.workload = "", .text = golden["prompt"].get<std::string>(), .ids = {}});
  ASSERT_EQ(run.events.quality.size(), 1U);
  const QualityRecord& q = run.events.quality[0];
  EXPECT_EQ(q.tokens, golden["ids"].size() - 1);
  EXPECT_NEAR(q.nll_sum / static_cast<double>(q.tokens), golden["mean_nll"].get<double>(), 1e-3);
}

TEST(GoldenRun, AnOracleIsRefusedInALiveRun) {
  EmulatedRun run("belady", 0.25);
  EXPECT_THROW(run.runner(), InputError);
}

TEST(GoldenRun, ARefusedChangeChangesNothing) {
  EmulatedRun run("on-demand", 0.5);
  run.generate(kTale, 2);
  EXPECT_THROW(run.runner().apply({.kind = CommandKind::set_policy, .text = "resident"}), InputError);
  EXPECT_THROW(run.runner().apply({.kind = CommandKind::set_policy, .text = "belady"}), InputError);
  EXPECT_THROW(run.runner().apply({.kind = CommandKind::set_cache_ratio, .text = "", .value = 2}), InputError);
  EXPECT_THROW(run.runner().apply({.kind = CommandKind::set_parameter, .text = "evictor.depth", .value = 2}),
               InputError);
  EXPECT_EQ(to_string(run.runner().policy()), "on-demand");
  EXPECT_EQ(run.runner().cache_ratio(), 0.5);
  EXPECT_EQ(run.events.epochs.size(), 1U);
}

}  // namespace
}  // namespace expertscope
