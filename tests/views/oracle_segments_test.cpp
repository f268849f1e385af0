#include <gtest/gtest.h>

#include "views/strip_layout.h"

namespace expertscope {
namespace {

std::vector<OracleWindow> windows(int count) {
  std::vector<OracleWindow> out;
  for (int i = 0; i < count; ++i)
    out.push_back({.start_ns = i * 100, .end_ns = i * 100 + 100, .demands = 10, .hits = i % 2 == 0 ? 10 : 5});
  return out;
}

TEST(OracleLine, ShowsEachWindowWhereItLies) {
  const auto segments = oracle_segments(windows(4), {.range = {100, 300}, .x0 = 50, .x1 = 250});
  ASSERT_EQ(segments.size(), 2U);
  EXPECT_DOUBLE_EQ(segments[0].x0, 50);
  EXPECT_DOUBLE_EQ(segments[0].x1, 150);
  EXPECT_DOUBLE_EQ(segments[0].hit_rate, 0.5);
  EXPECT_DOUBLE_EQ(segments[1].hit_rate, 1);
}

TEST(OracleLine, JoinsWindowsThatAreTooNarrowToTellApart) {
  const auto segments = oracle_segments(windows(100'000), {.range = {0, 10'000'000}, .x0 = 0, .x1 = 1000});
  EXPECT_LE(segments.size(), 1000U / 6 + 1);
  EXPECT_NEAR(segments[3].hit_rate, 0.75, 0.01);
}

TEST(OracleLine, IsEmptyWithoutFinishedWindows) {
  EXPECT_TRUE(oracle_segments({}, {.range = {0, 100}, .x0 = 0, .x1 = 100}).empty());
}

}  // namespace
}  // namespace expertscope
