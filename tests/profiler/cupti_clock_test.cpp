#include "profiler/cupti_clock.h"

#include <gtest/gtest.h>

namespace expertscope {
namespace {

TEST(CuptiClock, LeavesTimesAloneWithoutASample) {
  EXPECT_EQ(CuptiClock().to_host(12345), 12345);
}

TEST(CuptiClock, TakesTheMiddleOfTheBracketAsTheHostsTime) {
  CuptiClock clock;
  clock.add_sample(1'000'000, 100, 300);
  EXPECT_EQ(clock.to_host(1'000'000), 200);
  EXPECT_EQ(clock.to_host(1'000'500), 700);
  EXPECT_EQ(clock.to_host(999'900), 100);
  EXPECT_EQ(clock.to_host(0), 0);  // no time at all
  EXPECT_EQ(clock.widest_bracket_ns(), 200);
}

TEST(CuptiClock, FollowsADriftBetweenSamples) {
  CuptiClock clock;
  // CUPTI's clock runs fast by 100 ppm.
  for (std::int64_t t = 0; t <= 10; ++t) {
    const std::int64_t host = 5'000'000'000 + t * 100'000'000;
    clock.add_sample(9'000'000'000 + t * 100'010'000, host, host);
  }
  for (std::int64_t part = 0; part <= 100; ++part)
    EXPECT_NEAR(static_cast<double>(clock.to_host(9'000'000'000 + part * 10'001'000)),
                static_cast<double>(5'000'000'000 + part * 10'000'000), 1.0);
}

TEST(CuptiClock, DoesNotSmearAStepOfTheHostsClock) {
  CuptiClock clock;
  clock.add_sample(1'000'000'000, 1'000, 1'000);
  clock.add_sample(4'000'000'000, 1'000'001'000, 1'000'001'000);  // stepped by two seconds meanwhile
  EXPECT_EQ(clock.to_host(1'000'500'000), 501'000);
  clock.add_sample(2'500'000'000, 1'500'001'000, 1'500'001'000);  // and back
  EXPECT_EQ(clock.to_host(2'600'000'000), 1'600'001'000);
}

}  // namespace
}  // namespace expertscope
