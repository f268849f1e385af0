#include "views/format.h"

#include <gtest/gtest.h>

namespace expertscope {
namespace {

TEST(Format, GivesThreeSignificantDigitsAndAUnit) {
  EXPECT_EQ(format_duration(1'240'000), "1.24 ms");
  EXPECT_EQ(format_duration(812), "812 ns");
  EXPECT_EQ(format_duration(17'137'347'000), "17.1 s");
  EXPECT_EQ(format_rate(33.1e9), "33.1 GB/s");
  EXPECT_EQ(format_bytes(4.752e9), "4.75 GB");
  EXPECT_EQ(format_percent(0.7134), "71.3 %");
  EXPECT_EQ(format_tokens_per_s(18.44), "18.4 tok/s");
  EXPECT_EQ(format_count(1'204'331), "1,204,331");
}

TEST(Format, ChangesPrefixWhereRoundingWouldShowAThousand) {
  EXPECT_EQ(format_duration(999'499), "999 µs");
  EXPECT_EQ(format_duration(999'600), "1.00 ms");
  EXPECT_EQ(format_bytes(999'600), "1.00 MB");
  EXPECT_EQ(format_si(0.00124, "W"), "1.24 mW");
}

TEST(Format, HasNoFractionsOfBytes) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(7), "7 B");
  EXPECT_EQ(format_bytes(1500), "1.50 kB");
}

TEST(Format, NeverRoundsSomethingToNothingOrToAll) {
  EXPECT_EQ(format_percent(0), "0 %");
  EXPECT_EQ(format_percent(0.00001), "< 0.01 %");
  EXPECT_EQ(format_percent(1), "100 %");
  EXPECT_EQ(format_percent(0.0042), "0.42 %");
}

TEST(Format, WritesRatiosAsShortAsPossible) {
  EXPECT_EQ(format_ratio(0.25), "0.25");
  EXPECT_EQ(format_ratio(0.125), "0.125");
  EXPECT_EQ(format_ratio(1), "1");
}

TEST(Format, GivesAxisTimesAsManyDigitsAsTellTicksApart) {
  EXPECT_EQ(format_axis_time(1'250'000'000, 50'000'000), "1.25 s");
  EXPECT_EQ(format_axis_time(5'000'000'000, 1'000'000'000), "5 s");
  EXPECT_EQ(format_axis_time(1'500'000, 500'000), "1.5 ms");
}

}  // namespace
}  // namespace expertscope
