#include "engine/run/replay.h"

#include <gtest/gtest.h>

#include "engine/error.h"
#include "tests/engine/emulated_run.h"

namespace expertscope {
namespace {

RecordedEvents replayed(const RecordedRun& run, const ReplayRequest& request) {
  RecordedEvents events;
  replay(run, request, events);
  return events;
}

RecordedEvents live(const std::string& policy, double ratio, int tokens = 40) {
  EmulatedRun run(policy, ratio);
  run.generate(kTale, tokens);
  run.generate("The king had three sons, and the youngest of them was called", tokens);
  return run.events;
}

TEST(Replay, OfARunUnderItsOwnPolicyIsTheRunItself) {
  for (const char* policy : {"on-demand", "lfu", "static", "cpu-only", "split", "lookahead",
                             "lookahead:prefetcher.depth=3", "on-demand:capacity=global"}) {
    SCOPED_TRACE(policy);
    const RecordedEvents run = live(policy, 0.25);
    EXPECT_EQ(events_of(replayed(run.recorded(), {})), events_of(run));
    EXPECT_EQ(events_of(replayed(run.recorded(), {.policy = parse_policy_spec(policy), .cache_ratio = 0.25})),
              events_of(run));
  }
}

TEST(Replay, OfARunUnderAnotherPolicyIsThatPolicysRun) {
  const RecordedEvents recorded = live("on-demand", 0.25);
  for (const char* policy : {"lfu", "static", "cpu-only", "split", "lookahead"}) {
    for (double ratio : {0.125, 0.5}) {
      SCOPED_TRACE(policy);
      EXPECT_EQ(events_of(replayed(recorded.recorded(), {.policy = parse_policy_spec(policy), .cache_ratio = ratio})),
                events_of(live(policy, ratio)));
    }
  }
}

TEST(Replay, OfARunWithSeveralEpochsIsTheRunItself) {
  EmulatedRun run("on-demand", 0.5);
  run.runner().set_boundary_hook([&](std::uint32_t token, TimeNs) {
    if (token == 10) run.runner().apply({.kind = CommandKind::set_policy, .text = "lookahead"});
    if (token == 20) run.runner().apply({.kind = CommandKind::set_parameter, .text = "prefetcher.depth", .value = 2});
    if (token == 30) run.runner().apply({.kind = CommandKind::set_cache_ratio, .text = "", .value = 0.125});
    if (token == 40) run.runner().apply({.kind = CommandKind::reset_cache, .text = ""});
    if (token == 45) run.runner().apply({.kind = CommandKind::set_policy, .text = "static"});
    return true;
  });
  run.generate(kTale, 30);
  run.generate(kTale, 30);
  EXPECT_EQ(run.events.epochs.size(), 6U);
  EXPECT_EQ(events_of(replayed(run.events.recorded(), {})), events_of(run.events));
}

TEST(Replay, TheOracleCopiesNoMoreThanAnyPolicyThatFetchesEveryDemand) {
  const RecordedEvents recorded = live("on-demand", 0.25);
  for (double ratio : {0.0, 0.05, 0.125, 0.25, 0.5, 0.75, 1.0}) {
    const RecordedEvents oracle =
        replayed(recorded.recorded(), {.policy = parse_policy_spec("belady"), .cache_ratio = ratio});
    EXPECT_EQ(oracle.count(Outcome::cpu), 0);
    for (const char* policy :
         {"on-demand", "lfu", "lookahead", "on-demand:capacity=global", "lfu:capacity=global", "resident"}) {
      const ReplayRequest request{.policy = parse_policy_spec(policy), .cache_ratio = ratio};
      if (!why_not(recorded.recorded(), request).empty()) continue;
      EXPECT_LE(oracle.expert_copies(), replayed(recorded.recorded(), request).expert_copies())
          << policy << " at " << ratio;
    }
  }
}

// MIN with bypass on the reference's request sets (reference: policies.md, golden values), played by hand: one layer of
// six experts, top-2.
RecordedRun golden_requests() {
  const std::vector<std::pair<int, int>> sets = {{0, 1}, {0, 2}, {3, 4}, {0, 1}, {0, 5},
                                                 {1, 2}, {0, 3}, {0, 1}, {4, 5}, {0, 1}};
  RecordedRun run;
  const RecordedEvents real = live("on-demand", 0.25, 2);
  run.info = real.info;
  run.info.layers = 1;
  run.info.experts = 6;
  run.epochs = {real.epochs[0]};
  run.prompts = {real.prompts[0]};
  for (std::uint32_t s = 0; s < sets.size(); ++s) {
    run.steps.push_back(
        {.step = s, .first_position = s, .tokens = 1, .sampled = 1, .logits = 1, .phase = Phase::decode});
    RouteRecord r{.step = s, .layer = 0, .token = 0, .picks = 2};
    r.expert[0] = static_cast<std::uint16_t>(sets[s].first);
    r.expert[1] = static_cast<std::uint16_t>(sets[s].second);
    r.weight[0] = r.weight[1] = 0.5F;
    run.routes.push_back(r);
  }
  return run;
}

TEST(Replay, MissesOfTheReferenceRequestSets) {
  const RecordedRun run = golden_requests();
  const std::vector<std::array<int, 4>> expected = {{2, 17, 17, 10}, {3, 15, 12, 9}, {4, 11, 11, 8}};
  for (const auto& [slots, lru, lfu, oracle] : expected) {
    const auto misses = [&](const char* policy) {
      return replayed(run, {.policy = parse_policy_spec(policy), .cache_ratio = slots / 6.0}).count(DemandState::miss);
    };
    EXPECT_EQ(misses("on-demand"), lru) << slots;
    EXPECT_EQ(misses("lfu:evictor.history=session"), lfu) << slots;
    EXPECT_EQ(misses("belady"), oracle) << slots;
  }
}

TEST(Replay, RefusesWhatWasNotRecordedAndNamesTheOption) {
  EmulatedRun run("on-demand", 0.25);
  run.options.record_gates = 0;
  run.generate(kTale, 4);
  const ReplayRequest request{.policy = parse_policy_spec("lookahead"), .cache_ratio = 0.25};
  EXPECT_EQ(why_not(run.events.recorded(), request),
            "lookahead needs the gates of 1 coming layer, the session has 0: record it with --record-gates 1");
  EXPECT_THROW(replayed(run.events.recorded(), request), InputError);
}

TEST(Replay, RefusesResidentBelowRatioOne) {
  const RecordedEvents run = live("on-demand", 0.25, 2);
  EXPECT_NE(why_not(run.recorded(), {.policy = parse_policy_spec("resident"), .cache_ratio = 0.5}), "");
  EXPECT_EQ(why_not(run.recorded(), {.policy = parse_policy_spec("resident"), .cache_ratio = 1}), "");
}

TEST(Replay, RefusesASessionThatLostRoutes) {
  RecordedRun run = live("on-demand", 0.25, 4).recorded();
  run.routes.erase(run.routes.begin() + 30);
  EXPECT_THROW(replayed(run, {}), InputError);
}

}  // namespace
}  // namespace expertscope
