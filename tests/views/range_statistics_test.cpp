#include "views/range_statistics.h"

#include <gtest/gtest.h>

#include "tests/views/sample_trace.h"

namespace expertscope {
namespace {

class RangeStatisticsTest : public testing::TestWithParam<std::pair<double, double>> {};  // shares of the session

TEST_P(RangeStatisticsTest, GivesTheProfilersNumbersForAnyRange) {
  const Trace trace = sample::trace();
  TraceIndex index;
  index.update(trace);
  const auto at = [&](double share) { return static_cast<TimeNs>(share * static_cast<double>(trace.end_ns())); };
  const TimeRange range{at(GetParam().first), at(GetParam().second)};
  const RangeValues values = range_values(trace, index, range);
  EXPECT_EQ(values.parts.ns, attribute_interval(trace, range.begin_ns, range.end_ns).ns);
  const Overlap wanted = overlap(trace, range);
  EXPECT_EQ(values.overlapped.decode_ns, wanted.decode_ns);
  EXPECT_EQ(values.overlapped.gpu_busy_ns, wanted.gpu_busy_ns);
  EXPECT_EQ(values.overlapped.copy_ns, wanted.copy_ns);
  EXPECT_EQ(values.overlapped.copy_hidden_ns, wanted.copy_hidden_ns);
  const TransferTotals transfers = count_transfers(trace, range);
  EXPECT_EQ(values.transfers.count, transfers.count);
  EXPECT_EQ(values.transfers.bytes, transfers.bytes);
  EXPECT_EQ(values.transfers.demand_bytes, transfers.demand_bytes);
  EXPECT_EQ(values.transfers.prefetch_bytes, transfers.prefetch_bytes);
  EXPECT_EQ(values.transfers.wasted_prefetch_bytes, transfers.wasted_prefetch_bytes);
  EXPECT_EQ(values.transfers.copy_ns, transfers.copy_ns);
}

INSTANTIATE_TEST_SUITE_P(Ranges, RangeStatisticsTest,
                         testing::Values(std::pair{0.0, 1.0}, std::pair{0.2, 0.8}, std::pair{0.31, 0.3101},
                                         std::pair{0.395, 0.45}, std::pair{0.5, 0.5001}, std::pair{0.98, 1.2}));

TEST(RangeStatistics, AreKeptUntilTheRangeChanges) {
  const Trace trace = sample::trace({.prompts = 1, .tokens_each = 20});
  TraceIndex index;
  index.update(trace);
  RangeStatistics statistics;
  const TimeRange first{0, trace.end_ns() / 2}, second{0, trace.end_ns()};
  const auto tokens = statistics.of(trace, index, first, true).decode.tokens;
  EXPECT_EQ(statistics.of(trace, index, second, false).decode.tokens, tokens)
      << "while it is dragged, the last will do";
  EXPECT_EQ(statistics.of(trace, index, second, true).decode.tokens, 19u);
}

}  // namespace
}  // namespace expertscope
