#include "views/timeline_layout.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "tests/views/sample_trace.h"
#include "views/trace_index.h"

namespace expertscope {
namespace {

class TimelineLayoutTest : public testing::Test {
 protected:
  TimelineLayoutTest() { rows_.update(trace_, {}); }
  TimelineLayout lay_out(TimeRange range, double width = 800) const {
    return timeline_layout(trace_, rows_.rows(trace_), {range, 100, 100 + width}, 0, {});
  }
  TimeRange step(std::size_t i) const { return {trace_.steps[i].start_ns, trace_.steps[i].end_ns}; }
  static const TimelineLane& lane(const TimelineLayout& layout, RowKind kind) {
    return *std::find_if(layout.lanes.begin(), layout.lanes.end(),
                         [&](const TimelineLane& l) { return l.kind == kind; });
  }

  const Trace trace_ = sample::trace();
  TimelineRows rows_;
};

TEST_F(TimelineLayoutTest, HasALaneForTheGpuItsWaitsTheLinkTheCpuAndTheHost) {
  const auto layout = lay_out(step(150));
  std::vector<std::string> labels;
  for (const TimelineLane& l : layout.lanes) labels.push_back(l.label);
  EXPECT_EQ(labels, (std::vector<std::string>{"GPU", "Waits", "H2D", "CPU", "Host"}));
  for (std::size_t i = 1; i < layout.lanes.size(); ++i)
    EXPECT_GE(layout.lanes[i].y0, layout.lanes[i - 1].y1) << "lanes do not overlap";
}

TEST_F(TimelineLayoutTest, ShowsEveryIntervalWhenZoomedIn) {
  const TimeRange range{trace_.steps[150].start_ns, trace_.steps[150].start_ns + 20'000'000};
  const auto layout = lay_out(range, 2000);
  std::size_t waits = 0;
  for (const WorkRecord& work : trace_.works)
    waits += is_wait(work.kind) && work.end_ns > range.begin_ns && work.start_ns < range.end_ns;
  EXPECT_EQ(lane(layout, RowKind::waits).boxes.size(), waits);
  ASSERT_GT(waits, 0u);
  for (const TimelineBox& box : lane(layout, RowKind::waits).boxes) {
    EXPECT_FALSE(box.column);
    EXPECT_GE(box.x0, 100);
    EXPECT_LE(box.x1, 2101);
  }
}

TEST_F(TimelineLayoutTest, SumsUpColumnsWhenZoomedOutSoThatTheCostDoesNotGrow) {
  const auto layout = lay_out({0, trace_.end_ns()}, 800);
  for (const TimelineLane& l : layout.lanes) {
    EXPECT_LE(l.boxes.size(), 401u) << l.label;
    for (const TimelineBox& box : l.boxes) EXPECT_LE(box.fill, 1.0);
  }
  EXPECT_TRUE(lane(layout, RowKind::gpu).boxes.front().column);
}

TEST_F(TimelineLayoutTest, SaysHowBusyALaneWasWhateverTheZoom) {
  const TimeRange range = step(40);
  TimeNs waited = 0;
  for (const WorkRecord& work : trace_.works_of(40))
    if (is_wait(work.kind)) waited += work.end_ns - work.start_ns;
  EXPECT_NEAR(lane(lay_out(range), RowKind::waits).busy_share,
              static_cast<double>(waited) / static_cast<double>(width_ns(range)), 1e-9);
}

TEST_F(TimelineLayoutTest, NumbersTokensAndMergesThemWhenTheyAreNarrow) {
  const auto near = lay_out({trace_.steps[150].start_ns, trace_.steps[153].end_ns});
  ASSERT_EQ(near.steps.size(), 4u);
  EXPECT_EQ(near.steps[0].first_step, 150u);
  const auto far = lay_out({0, trace_.end_ns()});
  EXPECT_LT(far.steps.size(), 60u);
  std::uint32_t steps = 0;
  for (const StepBox& box : far.steps) steps += box.steps;
  EXPECT_EQ(steps, trace_.steps.size());
}

TEST_F(TimelineLayoutTest, ShowsLayersOnlyWhereTheirNumbersCanBeRead) {
  EXPECT_EQ(lay_out(step(150), 1200).layers.size(), 12u);
  EXPECT_TRUE(lay_out({0, trace_.end_ns()}).layers.empty());
}

TEST_F(TimelineLayoutTest, FindsWhatIsUnderTheMouse) {
  const auto layout = lay_out(step(150), 2000);
  const TimelineLane& link = lane(layout, RowKind::h2d);
  const TimelineBox& wanted = link.boxes[link.boxes.size() / 2];
  const TimelineLane* found_lane = lane_at(layout, (link.y0 + link.y1) / 2);
  ASSERT_EQ(found_lane, &link);
  EXPECT_EQ(box_at(*found_lane, (wanted.x0 + wanted.x1) / 2), &wanted);
  EXPECT_EQ(box_at(*found_lane, 50), nullptr);
  EXPECT_EQ(lane_at(layout, layout.bottom + 100), nullptr);
}

TEST(TimelineLayout, EveryGpuHasLanesOfItsOwn) {
  Batch batch;
  batch.start = RunInfo{};
  for (const std::uint8_t device : {0, 2}) {
    batch.works.push_back({.start_ns = 0, .end_ns = 50, .kind = WorkKind::expert, .lane = Lane::gpu, .device = device});
    batch.copies.push_back({.start_ns = 10, .end_ns = 30, .lane = Lane::h2d, .device = device});
    batch.copies.push_back({.start_ns = 40, .end_ns = 60, .lane = Lane::d2h, .device = device});
  }
  Trace trace;
  trace.append(batch);
  TimelineRows rows;
  rows.update(trace, {});
  const auto layout = timeline_layout(trace, rows.rows(trace), {{0, 100}, 0, 500}, 0, {});
  std::vector<std::string> labels;
  for (const TimelineLane& l : layout.lanes) labels.push_back(l.label);
  EXPECT_EQ(labels, (std::vector<std::string>{"GPU 0", "Waits 0", "H2D 0", "D2H 0", "GPU 2", "Waits 2", "H2D 2",
                                              "D2H 2", "CPU"}));
  for (const TimelineLane& l : layout.lanes) {
    if (l.kind != RowKind::gpu && l.kind != RowKind::h2d && l.kind != RowKind::d2h) continue;
    EXPECT_EQ(l.boxes.size(), 1U) << l.label;
  }
}

TEST(TimelineLayout, OfAnEmptySessionHasLanesAndNothingInThem) {
  const Trace trace;
  TimelineRows rows;
  rows.update(trace, {});
  const auto layout = timeline_layout(trace, rows.rows(trace), {{0, 1000}, 0, 500}, 0, {});
  EXPECT_EQ(layout.lanes.size(), 4u);
  for (const TimelineLane& lane : layout.lanes) EXPECT_TRUE(lane.boxes.empty());
}

}  // namespace
}  // namespace expertscope
