#include "views/strip_layout.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "tests/views/sample_trace.h"
#include "views/step_sums.h"

namespace expertscope {
namespace {

class StripLayoutTest : public testing::Test {
 protected:
  StripLayoutTest() { summaries_.update(trace_); }
  StripLayout lay_out(Curve curve, TimeRange range) const {
    return strip_layout(curve, steps_within(summaries_.steps(), range), trace_.info, {range, 100, 900}, 10, 60);
  }
  TimeRange all() const { return {0, trace_.end_ns()}; }

  const Trace trace_ = sample::trace();
  StepSummaries summaries_;
};

TEST_F(StripLayoutTest, WritesMinimumMeanAndMaximumOfTheVisibleRange) {
  const auto strip = lay_out(Curve::tokens_per_s, all());
  const DecodeNumbers numbers = decode_numbers(trace_);
  EXPECT_NEAR(strip.mean, numbers.tokens_per_s(), 1e-6) << "the mean is the report's";
  EXPECT_LE(strip.min, strip.mean);
  EXPECT_GE(strip.max, strip.mean);
}

TEST_F(StripLayoutTest, StaysInsideItsStrip) {
  for (const Curve curve : kStrips)
    for (const StripPoint& point : lay_out(curve, all()).points) {
      EXPECT_GE(point.y, 10);
      EXPECT_LE(point.y, 60);
      EXPECT_GE(point.x, 100);
      EXPECT_LE(point.x, 900);
    }
}

TEST_F(StripLayoutTest, DrawsTheLinksCeilingBelowTheTop) {
  const auto strip = lay_out(Curve::link_bytes_per_s, all());
  EXPECT_EQ(strip.ceiling, trace_.info.h2d_bytes_per_s);
  EXPECT_GT(strip.y_of(strip.ceiling), strip.y0);
  EXPECT_EQ(lay_out(Curve::hit_rate, all()).ceiling, 0);
}

TEST_F(StripLayoutTest, ShowsHitRatesOnAFixedScale) {
  EXPECT_EQ(lay_out(Curve::hit_rate, all()).top_value, 1);
}

TEST_F(StripLayoutTest, BreaksTheLineWhereAPromptWasRead) {
  const auto strip = lay_out(Curve::tokens_per_s, all());
  const auto breaks =
      std::count_if(strip.points.begin(), strip.points.end(), [](const StripPoint& p) { return !p.joined; });
  EXPECT_EQ(breaks, 2) << "one stretch for each of the two prompts";
}

TEST_F(StripLayoutTest, IsEmptyWhereNothingWasDecoded) {
  const auto strip = lay_out(Curve::hit_rate, {0, 1000});
  EXPECT_FALSE(strip.has_values);
  EXPECT_TRUE(strip.points.empty());
}

TEST_F(StripLayoutTest, FindsTheStepUnderATime) {
  const auto steps = summaries_.steps();
  EXPECT_EQ(summary_at(steps, trace_.steps[77].start_ns + 5)->step, 77u);
  EXPECT_EQ(summary_at(steps, -1), nullptr);
}

TEST_F(StripLayoutTest, SaysThatTheLinkHoldsBackWhereTokensWaitForCopies) {
  const auto sums = decode_sums(summaries_.steps());
  EXPECT_EQ(bottleneck(sums.part_ns).name, "link");
  EXPECT_GT(bottleneck(sums.part_ns).share, 0.5);
  std::array<TimeNs, kTimeParts> parts{};
  EXPECT_EQ(bottleneck(parts).name, "");
  parts[static_cast<std::size_t>(TimePart::gpu_compute)] = 5;
  EXPECT_EQ(bottleneck(parts).name, "GPU");
}

TEST_F(StripLayoutTest, CountsTheLastTokensForLiveNumbers) {
  const auto recent = recent_decode_sums(summaries_.steps(), 32);
  EXPECT_EQ(recent.tokens, 32u);
  EXPECT_EQ(recent.demands, 32u * 12 * 2);
}

}  // namespace
}  // namespace expertscope
