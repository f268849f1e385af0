#include "profiler/trace.h"

#include <gtest/gtest.h>

#include "tests/profiler/record_equality.h"
#include "tests/profiler/sample_run.h"

namespace expertscope {
namespace {

TEST(Trace, IsTheSameHoweverTheRunWasCutIntoBatches) {
  const Batch whole = test::sample_batch();
  Trace at_once, in_pieces;
  at_once.append(Batch(whole));
  // Each step with its records in a batch of its own.
  std::size_t work = 0, demand = 0, copy = 0;
  for (const StepRecord& step : whole.steps) {
    Batch piece;
    for (; work < whole.works.size() && whole.works[work].step == step.step; ++work)
      piece.works.push_back(whole.works[work]);
    for (; copy < whole.copies.size() && whole.copies[copy].step == step.step; ++copy)
      piece.copies.push_back(whole.copies[copy]);
    for (; demand < whole.demands.size() && whole.demands[demand].step == step.step; ++demand) {
      piece.demands.push_back(whole.demands[demand]);
    }
    piece.steps.push_back(step);
    in_pieces.append(piece);
  }
  Batch rest = whole;
  rest.works.clear();
  rest.copies.clear();
  rest.demands.clear();
  rest.steps.clear();
  in_pieces.append(rest);
  test::expect_equal(at_once, in_pieces);
  for (const StepRecord& step : whole.steps) {
    ASSERT_EQ(at_once.demands_of(step.step).size(), in_pieces.demands_of(step.step).size());
    ASSERT_EQ(at_once.works_of(step.step).size(), in_pieces.works_of(step.step).size());
  }
  ASSERT_EQ(at_once.lanes().size(), in_pieces.lanes().size());
  for (const auto& [key, lane] : at_once.lanes()) {
    const auto other = in_pieces.lanes().at(key).items();
    ASSERT_EQ(lane.items().size(), other.size());
    for (std::size_t i = 0; i < other.size(); ++i) ASSERT_EQ(lane.items()[i].record, other[i].record);
  }
}

TEST(Trace, FindsAStepsRecords) {
  const Trace trace = test::sample_trace();
  const auto demands = trace.demands_of(5);
  ASSERT_FALSE(demands.empty());
  for (const DemandRecord& d : demands) EXPECT_EQ(d.step, 5u);
  std::size_t all = 0;
  for (const StepRecord& step : trace.steps) all += trace.demands_of(step.step).size();
  EXPECT_EQ(all, trace.demands.size());
  EXPECT_TRUE(trace.demands_of(99999).empty());
}

TEST(Trace, FindsTheStepAtATime) {
  const Trace trace = test::sample_trace();
  EXPECT_EQ(trace.step_at(-1), nullptr);
  EXPECT_EQ(trace.step_at(trace.steps[3].start_ns)->step, 3u);
  EXPECT_EQ(trace.step_at(trace.steps[3].end_ns + 1)->step, 3u);  // the gap between steps belongs to the one before
  EXPECT_EQ(trace.step_at(trace.end_ns() + 1000)->step, trace.steps.back().step);
  EXPECT_EQ(trace.find_step(7)->step, 7u);
  EXPECT_EQ(trace.find_step(99999), nullptr);
}

TEST(Trace, CopesWithAStepThatAFileLeftOut) {
  Batch batch = test::sample_batch();
  batch.steps.erase(batch.steps.begin() + 2);
  Trace trace;
  trace.append(batch);
  EXPECT_EQ(trace.find_step(2), nullptr);
  EXPECT_EQ(trace.find_step(3)->step, 3u);
  EXPECT_FALSE(trace.demands_of(3).empty());
  EXPECT_EQ(trace.demands_of(3).front().step, 3u);
}

TEST(Trace, AddsUpHealthNotesOfOneCode) {
  Trace trace;
  Batch batch;
  batch.health = {{"a", Severity::info, 2, "A."}, {"a", Severity::info, 3, "A."}};
  trace.append(batch);
  trace.append(batch);
  EXPECT_EQ(trace.health.at("a").count, 10u);
}

TEST(Trace, NamesTheEpochOfAStep) {
  const Trace trace = test::sample_trace();
  EXPECT_EQ(trace.epoch_of(trace.steps.front())->policy_spec, "on-demand");
  EXPECT_EQ(trace.epoch_of(trace.steps.back())->policy_spec, "lfu");
}

}  // namespace
}  // namespace expertscope
