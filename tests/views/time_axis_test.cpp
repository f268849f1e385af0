#include "views/time_axis.h"

#include <gtest/gtest.h>

namespace expertscope {
namespace {

const TimeRange kSession{0, 10'000'000'000};

TEST(TimeAxis, MapsTimesToPixelsAndBack) {
  const TimeAxis axis{{1'000'000, 3'000'000}, 100, 300};
  EXPECT_DOUBLE_EQ(axis.x_of(2'000'000), 200);
  EXPECT_EQ(axis.t_of(150), 1'500'000);
}

TEST(TimeAxis, ZoomsAboutTheCursor) {
  const TimeRange before{2'000'000'000, 4'000'000'000};
  const TimeNs cursor = 2'500'000'000;
  const TimeRange after = zoomed(before, cursor, 0.5, kSession);
  EXPECT_EQ(width_ns(after), 1'000'000'000);
  EXPECT_EQ(cursor - after.begin_ns, 250'000'000) << "the time under the cursor stays a quarter of the way across";
}

TEST(TimeAxis, NeverZoomsBelowTheNarrowestViewNorFarBeyondTheSession) {
  EXPECT_EQ(width_ns(zoomed({1000, 2000}, 1500, 1e-9, kSession)), kNarrowestView_ns);
  EXPECT_LE(width_ns(zoomed({0, 5'000'000'000}, 0, 1e9, kSession)), static_cast<TimeNs>(1.2 * 10'000'000'000 + 1));
}

TEST(TimeAxis, KeepsAPartOfTheSessionInViewWhilePanning) {
  const TimeRange far = panned({0, 1'000'000'000}, 100'000'000'000, kSession);
  EXPECT_LT(far.begin_ns, kSession.end_ns);
  EXPECT_EQ(width_ns(far), 1'000'000'000);
}

TEST(TimeAxis, PlacesTicksAtRoundTimesNoCloserThanAsked) {
  const auto ticks = time_ticks({{0, 1'000'000'000}, 0, 1000}, 90);
  ASSERT_GE(ticks.size(), 5u);
  for (std::size_t i = 1; i < ticks.size(); ++i) EXPECT_GE(ticks[i].x - ticks[i - 1].x, 90);
  for (const Tick& tick : ticks) EXPECT_EQ(tick.t % 100'000'000, 0);
}

TEST(TimeAxis, RoundsAxisEndsUpwards) {
  EXPECT_DOUBLE_EQ(round_up_nicely(18.4), 20);
  EXPECT_DOUBLE_EQ(round_up_nicely(0.072), 0.08);
  EXPECT_DOUBLE_EQ(round_up_nicely(100), 100);
  EXPECT_DOUBLE_EQ(round_up_nicely(0), 1);
}

}  // namespace
}  // namespace expertscope
