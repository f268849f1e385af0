#include "views/trace_index.h"

#include <map>
#include <set>

#include <gtest/gtest.h>

#include "tests/views/sample_trace.h"

namespace expertscope {
namespace {

TEST(PrefetchFates, AreUsedLateOrWastedAsTheDemandsSay) {
  const Trace trace = sample::trace();
  PrefetchFates fates;
  fates.update(trace);
  std::size_t used = 0, late = 0, wasted = 0, prefetches = 0;
  for (const CopyRecord& copy : trace.copies) {
    if (copy.reason != CopyReason::prefetch) continue;
    ++prefetches;
    const PrefetchFate fate = fates.of(copy.copy);
    used += fate == PrefetchFate::used;
    late += fate == PrefetchFate::late;
    wasted += fate == PrefetchFate::wasted;
  }
  std::size_t hits_of_prefetches = 0, late_demands = 0;
  for (const DemandRecord& demand : trace.demands) {
    hits_of_prefetches += demand.prefetched && demand.state == DemandState::hit;
    late_demands += demand.state == DemandState::late;
  }
  EXPECT_EQ(used, hits_of_prefetches);
  EXPECT_EQ(late, late_demands);
  EXPECT_GT(wasted, 0u);
  EXPECT_LE(used + late + wasted, prefetches);
}

TEST(PrefetchFates, AreWastedExactlyWhereTheProfilerSaysSo) {
  const Trace trace = sample::trace();
  PrefetchFates fates;
  fates.update(trace);
  const auto wasted = wasted_prefetches(trace);
  std::size_t compared = 0;
  for (std::size_t i = 0; i < trace.copies.size(); ++i) {
    const PrefetchFate fate = fates.of(trace.copies[i].copy);
    // What was still in a slot at the end is wasted for the report, and not asked for yet in a window.
    if (trace.copies[i].reason != CopyReason::prefetch || fate == PrefetchFate::pending) continue;
    EXPECT_EQ(fate == PrefetchFate::wasted, wasted[i]) << "copy " << trace.copies[i].copy;
    ++compared;
  }
  EXPECT_GT(compared, 100u);
}

TEST(PrefetchFates, AreCountedForTheStepThatIssuedThem) {
  const Trace trace = sample::trace();
  PrefetchFates fates;
  fates.update(trace);
  std::map<std::uint32_t, PrefetchCounts> wanted;
  std::set<std::uint32_t> seen;
  for (const CopyRecord& copy : trace.copies) {
    if (copy.reason != CopyReason::prefetch || !seen.insert(copy.copy).second) continue;
    PrefetchCounts& counts = wanted[copy.step];
    switch (fates.of(copy.copy)) {
      case PrefetchFate::used:
        ++counts.used;
        break;
      case PrefetchFate::late:
        ++counts.late;
        break;
      case PrefetchFate::wasted:
        ++counts.wasted;
        break;
      case PrefetchFate::pending:
        ++counts.pending;
    }
  }
  ASSERT_GT(wanted.size(), 100u);
  for (const StepRecord& step : trace.steps) {
    const PrefetchCounts counts = fates.issued_in(step.step), expected = wanted[step.step];
    EXPECT_EQ(counts.used, expected.used) << step.step;
    EXPECT_EQ(counts.late, expected.late) << step.step;
    EXPECT_EQ(counts.wasted, expected.wasted) << step.step;
    EXPECT_EQ(counts.pending, expected.pending) << step.step;
  }
}

TEST(TraceIndex, FindsTheTokenThatAStepSampled) {
  const Trace trace = sample::trace();
  TokenIndex tokens;
  tokens.update(trace);
  const auto token = tokens.sampled_by(42);
  ASSERT_TRUE(token);
  EXPECT_EQ(trace.tokens[*token].index, trace.steps[42].first_generated);
  EXPECT_FALSE(tokens.sampled_by(100'000));
}

TEST(TraceIndex, StartsAnewForAnotherSession) {
  const Trace first = sample::trace(), second = sample::trace({.prompts = 1, .tokens_each = 20});
  TraceIndex index;
  EXPECT_FALSE(index.update(first));
  EXPECT_EQ(index.steps.steps().size(), first.steps.size());
  EXPECT_FALSE(index.update(first));
  EXPECT_TRUE(index.update(second));
  EXPECT_EQ(index.steps.steps().size(), second.steps.size());
}

}  // namespace
}  // namespace expertscope
