// What policies learned while they ran, and what a change makes of it.
#include <gtest/gtest.h>

#include "tests/engine/emulated_run.h"

namespace expertscope {
namespace {

// Commands before the second prompt's fifth token.
RecordedEvents run_changed(const std::string& policy, const std::vector<Command>& commands) {
  EmulatedRun run(policy, 0.25);
  run.runner().set_boundary_hook([&](std::uint32_t generated, TimeNs) {
    if (generated == 16) {
      for (const Command& c : commands) run.runner().apply(c);
    }
    return true;
  });
  run.generate(kTale, 12);
  run.generate("The king had three sons, and the youngest of them was called", 16);
  return run.events;
}

Command cache_ratio(double ratio) {
  return {.kind = CommandKind::set_cache_ratio, .text = "", .value = ratio};
}
Command component(const std::string& setting) {
  return {.kind = CommandKind::set_component, .text = setting};
}
Command parameter(const std::string& name, double value) {
  return {.kind = CommandKind::set_parameter, .text = name, .value = value};
}

// Policies that learn as they run, none of which places anything when an epoch begins.
const std::vector<std::string> kLearning = {
    "moe-infinity",          "edgemoe:allocator=empty", "hybrimoe",
    "on-demand:evictor=mrs", "on-demand:evictor=lfru",  "moe-infinity:evictor=hobbit,prefetcher=stacked-gates"};

TEST(LiveChange, OfTheCacheRatioKeepsWhatWasLearned) {
  for (const std::string& policy : kLearning)
    EXPECT_EQ(events_of(run_changed(policy, {cache_ratio(0.25)})), events_of(run_changed(policy, {}))) << policy;
}

// A gate that prunes nothing is the router's own word.
TEST(LiveChange, OfAnotherComponentKeepsWhatWasLearned) {
  const std::vector<Command> to_another_gate = {component("gate=pruned"), parameter("gate.share", 0)};
  for (const std::string& policy : kLearning)
    EXPECT_EQ(events_of(run_changed(policy, to_another_gate)), events_of(run_changed(policy, {}))) << policy;
}

TEST(LiveChange, OfALearningComponentsOwnParameterLetsItBeginAnew) {
  EXPECT_NE(events_of(run_changed("moe-infinity", {parameter("predictor.capacity", 100)})),
            events_of(run_changed("moe-infinity", {})));
  EXPECT_NE(events_of(run_changed("on-demand:evictor=mrs", {parameter("evictor.top", 4)})),
            events_of(run_changed("on-demand:evictor=mrs", {parameter("evictor.top", 0)})));
}

TEST(LiveChange, IsReplayedExactlyWithWhatWasLearnedBefore) {
  const std::vector<Command> commands = {cache_ratio(0.5), component("evictor=lru"), component("scheduler=by-id")};
  for (const std::string& policy : kLearning) {
    const RecordedEvents live = run_changed(policy, commands);
    ASSERT_GT(live.epochs.size(), 3U);
    RecordedEvents again;
    replay(live.recorded(), {}, again);
    EXPECT_EQ(events_of(again), events_of(live)) << policy;
  }
}

}  // namespace
}  // namespace expertscope
