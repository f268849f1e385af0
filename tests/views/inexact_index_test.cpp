#include "views/inexact_index.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "views/describe.h"
#include "views/quality_index.h"
#include "views/timeline_layout.h"

namespace expertscope {
namespace {

constexpr TimeNs kStep_ns = 1'000'000;

DemandRecord demand(std::uint32_t step, std::uint16_t layer, std::uint16_t expert, Outcome outcome,
                    Precision precision = Precision::native) {
  DemandRecord r;
  r.asked_ns = step * kStep_ns + layer * 100'000;
  r.ready_ns = r.asked_ns + 50'000;
  r.step = step;
  r.layer = layer;
  r.expert = expert;
  r.picks = 1;
  r.outcome = outcome;
  r.precision = precision;
  return r;
}

WorkRecord cpu_expert(std::uint32_t step, std::uint16_t layer, std::uint16_t expert, TimeNs begin_ns) {
  WorkRecord r;
  r.start_ns = step * kStep_ns + begin_ns;
  r.end_ns = r.start_ns + 40'000;
  r.step = step;
  r.layer = layer;
  r.expert = expert;
  r.tokens = 1;
  r.kind = WorkKind::expert;
  r.lane = Lane::cpu;
  return r;
}

CopyRecord copy_of(std::uint32_t step, std::uint32_t number, Precision precision, TimeNs begin_ns) {
  CopyRecord r;
  r.start_ns = r.issued_ns = step * kStep_ns + begin_ns;
  r.end_ns = r.start_ns + 200'000;
  r.bytes = 1'000'000;
  r.step = step;
  r.copy = number;
  r.layer = 0;
  r.expert = 1;
  r.precision = precision;
  return r;
}

// Two tokens of four layers of four experts: the first under a policy that predicts, the second under an exact one.
std::vector<Batch> batches() {
  Batch first;
  RunInfo info;
  info.layers = 4;
  info.experts = 4;
  info.top_k = 2;
  first.start = info;
  first.works = {cpu_expert(0, 1, 0, 100'000),   // its router asked for it when it was done
                 cpu_expert(0, 2, 3, 200'000),   // predicted wrongly
                 cpu_expert(0, 3, 1, 310'000)};  // asked for, then computed
  first.copies = {copy_of(0, 0, Precision::native, 0), copy_of(0, 1, Precision::int4, 400'000)};
  first.demands = {demand(0, 0, 0, Outcome::gpu),         demand(0, 0, 1, Outcome::fetched, Precision::int4),
                   demand(0, 1, 0, Outcome::cpu_early),   demand(0, 1, 2, Outcome::skipped),
                   demand(0, 2, 0, Outcome::substituted), demand(0, 2, 1, Outcome::gpu, Precision::int2),
                   demand(0, 3, 1, Outcome::cpu)};
  StepRecord step;
  step.end_ns = kStep_ns;
  step.sampled = 1;
  step.phase = Phase::decode;
  first.steps = {step};
  Batch second;
  second.works = {cpu_expert(1, 2, 3, 250'000)};
  second.demands = {demand(1, 0, 0, Outcome::gpu), demand(1, 2, 3, Outcome::cpu)};
  step.start_ns = kStep_ns;
  step.end_ns = 2 * kStep_ns;
  step.step = step.first_generated = 1;
  second.steps = {step};
  return {first, second};
}

class InexactIndexTest : public testing::Test {
 protected:
  InexactIndexTest() {
    for (const Batch& batch : batches()) {
      trace_.append(batch);
      index_.update(trace_);
    }
  }
  Trace trace_;
  InexactIndex index_;
};

TEST_F(InexactIndexTest, CountsWhatEachTokenGaveUp) {
  const InexactCounts first = index_.of(0);
  EXPECT_EQ(first.skipped, 1u);
  EXPECT_EQ(first.substituted, 1u);
  EXPECT_EQ(first.left_out(), 2u);
  EXPECT_EQ(first.early, 1u);
  EXPECT_EQ(first.early_unasked, 1u);
  EXPECT_EQ(first.low_precision, 2u);
  EXPECT_TRUE(first.any());
  EXPECT_FALSE(index_.of(1).any()) << "every demand of it ran as the router and the file would have it";
  EXPECT_FALSE(index_.of(1000).any());
  EXPECT_EQ(inexact_text(first), "1 skipped, 1 substituted, 2 early, 2 low precision");
  EXPECT_EQ(inexact_text(index_.of(1)), "");
}

TEST_F(InexactIndexTest, TakesACpuExpertForEarlyUnlessItsDemandRanOnTheCpu) {
  EXPECT_EQ(index_.early(0), EarlyWork::demanded);
  EXPECT_EQ(index_.early(1), EarlyWork::unasked);
  EXPECT_EQ(index_.early(2), EarlyWork::none);
  EXPECT_EQ(index_.early(3), EarlyWork::none) << "the same expert, a token later and on time";
}

TEST_F(InexactIndexTest, FindsTheSameInACompleteTraceAsInAGrowingOne) {
  InexactIndex at_once;
  at_once.update(trace_);
  ASSERT_EQ(at_once.early().size(), index_.early().size());
  for (std::size_t i = 0; i < at_once.early().size(); ++i)
    EXPECT_EQ(at_once.early()[i].record, index_.early()[i].record);
  EXPECT_EQ(at_once.total().skipped, index_.total().skipped);
  EXPECT_EQ(at_once.total().low_precision, index_.total().low_precision);
}

TEST_F(InexactIndexTest, SaysNothingOfAStepThatIsNotComplete) {
  Trace growing;
  Batch begun = batches().front();
  begun.steps.clear();
  growing.append(begun);
  InexactIndex index;
  index.update(growing);
  EXPECT_TRUE(index.early().empty()) << "its router may still ask for them";
  EXPECT_FALSE(index.total().any());
}

TEST_F(InexactIndexTest, MarksEarlyWorkAndLowPrecisionInZoomedOutLanes) {
  TimelineRows rows;
  rows.update(trace_, index_);
  const auto layout = timeline_layout(trace_, rows.rows(trace_), {{0, 1'000'000'000}, 0, 6}, 0, {});
  const auto marked_share = [&](RowKind kind) {
    double fill = 0, marked = 0;
    for (const TimelineLane& lane : layout.lanes)
      for (const TimelineBox& box : lane.boxes)
        if (lane.kind == kind && box.column) fill += box.fill, marked += box.marked;
    return marked / fill;
  };
  EXPECT_NEAR(marked_share(RowKind::cpu), 0.5, 1e-9) << "two of four experts of equal length";
  EXPECT_NEAR(marked_share(RowKind::h2d), 0.5, 1e-9) << "one of two copies";
}

TEST_F(InexactIndexTest, DrawsLowerBarsForFewerBits) {
  TimelineRows rows;
  rows.update(trace_, index_);
  const auto layout = timeline_layout(trace_, rows.rows(trace_), {{0, 1'000'000}, 0, 1000}, 0, {});
  const auto h2d = std::find_if(layout.lanes.begin(), layout.lanes.end(),
                                [](const TimelineLane& lane) { return lane.kind == RowKind::h2d; });
  ASSERT_EQ(h2d->boxes.size(), 2u);
  EXPECT_EQ(h2d->boxes[0].height, 1);
  EXPECT_EQ(h2d->boxes[1].height, bar_height(Precision::int4));
  EXPECT_GT(bar_height(Precision::native), bar_height(Precision::int8));
  EXPECT_GT(bar_height(Precision::int8), bar_height(Precision::int4));
  EXPECT_GT(bar_height(Precision::int4), bar_height(Precision::int2));
  EXPECT_GT(bar_height(Precision::int2), 0.2);
}

TEST_F(InexactIndexTest, MarksWhatWasLeftOutWhereItsRouterAskedForIt) {
  Trace trace;
  Batch batch = batches().front();
  for (std::uint16_t layer = 0; layer < 4; ++layer) {
    WorkRecord attention;
    attention.kind = WorkKind::attention;
    attention.layer = layer;
    attention.start_ns = layer * 100'000;
    attention.end_ns = attention.start_ns + 90'000;
    batch.works.push_back(attention);
  }
  trace.append(batch);
  TimelineRows rows;
  rows.update(trace, index_);
  const auto layout = timeline_layout(trace, rows.rows(trace), {{0, 1'000'000}, 0, 1000}, 0, {});
  ASSERT_EQ(layout.layers.size(), 4u) << "a CPU expert that ran early does not stretch its layer";
  EXPECT_EQ(layout.layers[2].x0, 200);
  EXPECT_EQ(layout.layers[2].x1, 290);
  ASSERT_EQ(layout.left_out.size(), 2u);
  EXPECT_EQ(layout.left_out[0].x, 100);
  EXPECT_FALSE(layout.left_out[0].substituted);
  EXPECT_TRUE(layout.left_out[1].substituted);
  EXPECT_EQ(layer_box_at(layout, 250)->layer, 2);
  EXPECT_EQ(layer_box_at(layout, 295), nullptr);
  const Description d = describe_layer(trace, 0, 1);
  EXPECT_EQ(d.title, "Layer 1 of token 0");
  EXPECT_EQ(d.lines.back().second, "E2 skipped");
}

TEST(QualityIndex, AddsUpThePromptsComparisonsWithTheExactComputation) {
  Trace trace;
  Batch batch;
  batch.start = RunInfo{};
  batch.prompts.resize(2);
  batch.prompts[1].prompt = 1;
  QualityRecord record;
  record.prompt = 1;
  record.kl_sum = 0.5;
  record.shadowed = 4;
  record.agreed = 3;
  batch.quality = {record, record};
  trace.append(batch);
  QualityIndex index;
  index.update(trace);
  index.update(trace);
  EXPECT_EQ(index.of(0).shadowed, 0u);
  EXPECT_EQ(index.of(1).shadowed, 8u);
  EXPECT_DOUBLE_EQ(index.of(1).kl_mean(), 0.125);
  EXPECT_DOUBLE_EQ(index.total().agreement(), 0.75);
}

}  // namespace
}  // namespace expertscope
