// What is written in tooltips, flags and the help: texts people read and keys they press.
#include <map>
#include <set>

#include <gtest/gtest.h>

#include "tests/views/sample_trace.h"
#include "views/control_view.h"
#include "views/describe.h"
#include "views/title_bar.h"
#include "views/ui_commands.h"

namespace expertscope {
namespace {

TEST(Describe, SaysOfACopyHowLongHowMuchAndHowNearTheCeiling) {
  const Trace trace = sample::trace();
  const Description d = describe_copy(trace, trace.copies[0], PrefetchFate::pending);
  EXPECT_EQ(d.title.substr(0, 11), "Demand copy");
  std::map<std::string, std::string> lines(d.lines.begin(), d.lines.end());
  EXPECT_EQ(lines["took"], "3.96 ms");
  EXPECT_EQ(lines["bytes"], "99.0 MB");
  EXPECT_EQ(lines["rate"], "25.0 GB/s, 100 % of the ceiling");
  EXPECT_EQ(d.expert, (ExpertId{trace.copies[0].layer, trace.copies[0].expert}));
}

TEST(Describe, SaysThatAnExpertWasComputedEarlyAndOnWhichInput) {
  const Trace trace = sample::trace();
  WorkRecord work;
  work.lane = Lane::cpu;
  work.kind = WorkKind::expert;
  work.layer = 7;
  work.expert = 2;
  work.end_ns = 1'650'000;
  const Description d = describe_work(trace, work, EarlyWork::demanded);
  std::map<std::string, std::string> lines(d.lines.begin(), d.lines.end());
  EXPECT_EQ(d.title, "Expert L7·E2, early");
  EXPECT_EQ(lines["early"], "computed one layer early, on the input of layer 6");
  EXPECT_FALSE(lines.contains("router"));
  EXPECT_EQ(describe_work(trace, work, EarlyWork::unasked).lines.back().first, "router");
  EXPECT_EQ(describe_work(trace, work, EarlyWork::none).title, "Expert L7·E2");
}

TEST(Describe, NamesThePrecisionOfWorkAndCopiesThatAreNotNative) {
  const Trace trace = sample::trace();
  CopyRecord copy = trace.copies[0];
  const auto precision_of = [](const Description& d) {
    for (const auto& [what, value] : d.lines)
      if (what == "precision") return value;
    return std::string();
  };
  EXPECT_EQ(precision_of(describe_copy(trace, copy, PrefetchFate::pending)), "");
  copy.precision = Precision::int4;
  EXPECT_EQ(precision_of(describe_copy(trace, copy, PrefetchFate::pending)), "int4");
  WorkRecord work = trace.works[0];
  work.precision = Precision::int2;
  EXPECT_EQ(precision_of(describe_work(trace, work, EarlyWork::none)), "int2");
}

TEST(Describe, ListsWhatATokenGaveUpAndWhatBecameOfItsPrefetches) {
  const Trace trace = sample::trace();
  const Description d =
      describe_step(trace, trace.steps[42], {.skipped = 3, .early = 2, .early_unasked = 1}, {.used = 4, .wasted = 2});
  std::map<std::string, std::string> lines(d.lines.begin(), d.lines.end());
  EXPECT_EQ(lines["inexact"], "3 skipped, 3 early");
  EXPECT_EQ(lines["prefetches"], "4 useful, 2 wasted");
  const Description exact = describe_step(trace, trace.steps[42], {}, {});
  for (const auto& [what, value] : exact.lines) EXPECT_TRUE(what != "inexact" && what != "prefetches") << value;
}

TEST(Describe, NeverNeedsMoreThanEightLinesOfATooltip) {
  const Trace trace = sample::trace();
  for (const WorkRecord& work : trace.works) ASSERT_LE(describe_work(trace, work, EarlyWork::none).lines.size(), 7u);
  for (const CopyRecord& copy : trace.copies)
    ASSERT_LE(describe_copy(trace, copy, PrefetchFate::wasted).lines.size(), 7u);
  for (const StepRecord& step : trace.steps)
    ASSERT_LE(describe_step(trace, step, {.skipped = 1}, {.used = 1}).lines.size(), 7u);
  WorkRecord low = trace.works.front();
  low.kind = WorkKind::expert;
  low.layer = 3, low.expert = 5;
  low.bytes = low.flops = 1'000'000;
  low.precision = Precision::int4;
  EXPECT_LE(describe_work(trace, low, EarlyWork::none).lines.size(), 7u);
  EXPECT_LE(describe_work(trace, low, EarlyWork::unasked).lines.size(), 7u);
}

TEST(Describe, NamesChangesForFlags) {
  const Trace trace = sample::trace();
  ASSERT_EQ(trace.epochs.size(), 3u);
  EXPECT_EQ(epoch_text(trace.epochs[0]), "on-demand, cache 0.25");
  EXPECT_EQ(epoch_text(trace.epochs[1]), "policy on-demand → lookahead");
  EXPECT_EQ(epoch_text(trace.epochs[2]), "cache ratio 0.25 → 0.125");
}

TEST(Control, SaysWhatACacheRatioMeansInSlotsAndBytes) {
  LiveStatus status;
  status.layers = 12;
  status.experts = 16;
  status.slots_at_ratio_1 = 192;
  status.cache_bytes_at_ratio_1 = 19'008'000'000;
  EXPECT_EQ(cache_meaning(status, 0.25), "4 of 16 per layer, 48 slots, 4.75 GB");
  EXPECT_EQ(cache_meaning(status, 0.1), "1.6 of 16 per layer, 19 slots, 1.90 GB");
  EXPECT_EQ(cache_meaning(status, 1), "16 of 16 per layer, 192 slots, 19.0 GB");
}

TEST(Title, SaysWhoseCostsAnEmulatedMachineCharges) {
  EXPECT_EQ(machine_text(sample::trace().info), "emulated rtx4090-pcie4, costs of mixtral-8x7b-q4 layers");
}

TEST(UiCommands, HaveEachAKeyOfTheirOwn) {
  std::set<ImGuiKeyChord> keys;
  std::set<UiAction> actions;
  for (const UiCommand& command : ui_commands()) {
    EXPECT_TRUE(keys.insert(command.key).second) << command.name;
    EXPECT_TRUE(actions.insert(command.action).second) << command.name;
  }
}

}  // namespace
}  // namespace expertscope
