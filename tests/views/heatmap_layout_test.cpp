#include "views/heatmap_layout.h"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "tests/views/sample_trace.h"

namespace expertscope {
namespace {

class HeatmapTest : public testing::Test {
 protected:
  HeatmapTest() { index_.update(trace_); }
  const Trace trace_ = sample::trace();
  ExpertIndex index_;
};

TEST_F(HeatmapTest, CountsWhatTheProfilerCounts) {
  const TimeRange ranges[] = {{0, trace_.end_ns() + 1},
                              {trace_.steps[90].start_ns, trace_.steps[140].end_ns},
                              {trace_.steps[5].start_ns + 1'234'567, trace_.steps[6].end_ns}};
  for (const TimeRange range : ranges) {
    const ExpertGrid grid = index_.totals(trace_, range);
    const auto wanted = expert_totals(trace_, range);
    ASSERT_EQ(grid.cells.size(), wanted.size());
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      EXPECT_EQ(grid.cells[i].picks, wanted[i].activations);
      EXPECT_EQ(grid.cells[i].demands, wanted[i].demands);
      EXPECT_EQ(grid.cells[i].hits, wanted[i].hits);
      EXPECT_EQ(grid.cells[i].late, wanted[i].late);
      EXPECT_EQ(grid.cells[i].misses, wanted[i].misses);
      EXPECT_EQ(grid.cells[i].cpu, wanted[i].cpu);
      EXPECT_EQ(grid.cells[i].bytes, wanted[i].copied_bytes);
      EXPECT_EQ(grid.cells[i].resident, wanted[i].resident);
    }
  }
}

TEST_F(HeatmapTest, CountsTheSameWhenTheTraceGrowsStepByStep) {
  Trace growing;
  ExpertIndex index;
  for (const Batch& batch : sample::batches()) {
    growing.append(batch);
    index.update(growing);
  }
  const TimeRange range{trace_.steps[30].start_ns, trace_.steps[200].end_ns};
  const ExpertGrid a = index.totals(growing, range), b = index_.totals(trace_, range);
  for (std::size_t i = 0; i < a.cells.size(); ++i) {
    EXPECT_EQ(a.cells[i].demands, b.cells[i].demands);
    EXPECT_EQ(a.cells[i].resident_ns, b.cells[i].resident_ns);
  }
}

TEST_F(HeatmapTest, HoldsAsManyExpertsAsThereAreSlots) {
  const ExpertGrid grid = index_.totals(trace_, {0, trace_.end_ns() + 1});
  const auto resident =
      std::count_if(grid.cells.begin(), grid.cells.end(), [](const ExpertCell& cell) { return cell.resident; });
  EXPECT_GT(resident, 0);
  EXPECT_LE(resident, 24) << "an eighth of 12 x 16 after the cache was made smaller";
}

TEST_F(HeatmapTest, TellsAnExpertsHistoryInStretchesThatAddUpToItsTotals) {
  const TimeRange range{0, trace_.end_ns() + 1};
  const ExpertGrid grid = index_.totals(trace_, range);
  std::uint64_t hits = 0, misses = 0;
  std::int64_t bytes = 0;
  for (const ExpertHistoryBin& bin : index_.history(trace_, {3, 15}, range, 60)) {
    hits += bin.hits;
    misses += bin.misses;
    bytes += bin.bytes;
    EXPECT_GE(bin.resident_share, 0);
    EXPECT_LE(bin.resident_share, 1.0001);
  }
  EXPECT_EQ(hits, grid.at(3, 15).hits);
  EXPECT_EQ(misses, grid.at(3, 15).misses);
  EXPECT_EQ(bytes, grid.at(3, 15).bytes);
}

TEST_F(HeatmapTest, TotalsOfTheMarginsAreTheSumsOfTheirCells) {
  const ExpertGrid grid = index_.totals(trace_, {0, trace_.end_ns() + 1});
  const HeatValues values = heat_values(grid, HeatQuantity::activations, trace_.end_ns());
  double layers = 0, experts = 0;
  for (const double value : values.by_layer) layers += value;
  for (const double value : values.by_expert) experts += value;
  EXPECT_EQ(layers, values.total);
  EXPECT_EQ(experts, values.total);
  EXPECT_EQ(values.total, 12 * 2 * (318 + 2 * 24)) << "top 2 of 12 layers for every forwarded token";
}

TEST_F(HeatmapTest, HasNoHitRateWithoutADemand) {
  const ExpertGrid grid = index_.totals(trace_, {trace_.steps[150].start_ns, trace_.steps[150].end_ns});
  const HeatValues values = heat_values(grid, HeatQuantity::hit_rate, 1);
  std::size_t blank = 0;
  for (const double value : values.cells) blank += std::isnan(value);
  EXPECT_EQ(blank, 12u * 14) << "one token asks for two of sixteen";
  EXPECT_EQ(heat_value(HeatQuantity::hit_rate, values.cells[0] * std::nan("")), "no demand");
}

TEST(HeatmapQuantities, TellTheShareOfLowPrecisionAndTheCountOfWhatWasLeftOut) {
  ExpertGrid grid{.layers = 1, .experts = 2, .cells = std::vector<ExpertCell>(2)};
  grid.cells[0].demands = 8;
  grid.cells[0].low_precision = 2;
  grid.cells[0].skipped = 3;
  grid.cells[0].substituted = 1;
  const HeatValues low = heat_values(grid, HeatQuantity::low_precision, 1);
  EXPECT_EQ(low.at(0, 0), 0.25);
  EXPECT_TRUE(std::isnan(low.at(0, 1))) << "nobody asked for it";
  EXPECT_EQ(heat_value(HeatQuantity::low_precision, low.at(0, 0)), "25.0 %");
  const HeatValues left_out = heat_values(grid, HeatQuantity::left_out, 1);
  EXPECT_EQ(left_out.at(0, 0), 4);
  EXPECT_EQ(left_out.total, 4);
  EXPECT_FALSE(is_share(HeatQuantity::left_out));
}

TEST(HeatmapLayout, FindsTheCellUnderTheMouse) {
  const HeatLayout layout = heatmap_layout(12, 16, 0, 0, 480, 400, {});
  const auto cell = layout.cell_at(layout.x0 + 5.5 * layout.cell_w, layout.y0 + 3.5 * layout.cell_h);
  ASSERT_TRUE(cell);
  EXPECT_EQ(*cell, (ExpertId{3, 5}));
  EXPECT_FALSE(layout.cell_at(layout.x0 - 1, layout.y0 + 1));
  EXPECT_FALSE(layout.cell_at(layout.x1, layout.y0 + 1));
}

TEST(HeatmapLayout, KeepsMarginsInsideTheRoomAtAnyShape) {
  for (const auto& [layers, experts] : {std::pair{1, 1}, {12, 16}, {48, 128}, {61, 1024}}) {
    const HeatLayout layout = heatmap_layout(layers, experts, 10, 20, 500, 400, {});
    EXPECT_LE(layout.right_x1, 500.01) << layers << "x" << experts;
    EXPECT_LE(layout.bottom_y1, 400.01) << layers << "x" << experts;
  }
}

TEST(HeatmapLayout, SpreadsSmallValuesOnALogarithmicScale) {
  EXPECT_DOUBLE_EQ(heat_place(0, 100, true), 0);
  EXPECT_DOUBLE_EQ(heat_place(100, 100, true), 1);
  EXPECT_GT(heat_place(10, 100, true), heat_place(10, 100, false));
  EXPECT_GT(heat_place(0.1, 1, true), 0.1) << "shares too";
}

}  // namespace
}  // namespace expertscope
