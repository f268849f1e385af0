#include "engine/policy/regrouping.h"

#include <algorithm>
#include <bit>
#include <random>

#include <gtest/gtest.h>

namespace expertscope {
namespace {

// One layer of up to 64 experts.
RouteBits of(std::initializer_list<int> experts) {
  RouteBits bits(1, 0);
  for (int e : experts) bits[0] |= std::uint64_t{1} << e;
  return bits;
}

int fewest_by_trying_all(const std::vector<RouteBits>& routes, std::size_t in_second) {
  int fewest = 1 << 30;
  for (unsigned mask = 0; mask < 1U << routes.size(); ++mask) {
    if (static_cast<std::size_t>(std::popcount(mask)) != in_second) continue;
    std::vector<int> batch(routes.size());
    for (std::size_t i = 0; i < routes.size(); ++i) batch[i] = static_cast<int>(mask >> i & 1);
    fewest = std::min(fewest, distinct_experts(routes, batch));
  }
  return fewest;
}

TEST(AlikeBatches, CountDistinctExpertsOfEachBatch) {
  const std::vector<RouteBits> routes = {of({0, 1}), of({1, 2}), of({1, 7}), of({7, 8})};
  EXPECT_EQ(distinct_experts(routes, std::vector<int>{0, 0, 1, 1}), 3 + 3);
  EXPECT_EQ(distinct_experts(routes, std::vector<int>{0, 1, 1, 0}), 4 + 3);
}

TEST(AlikeBatches, PutTokensOfTheSameExpertsTogether) {
  const std::vector<RouteBits> routes = {of({0, 1}), of({8, 9}), of({0, 2}), of({8, 10}), of({1, 2}), of({9, 10})};
  const std::vector<int> given = {0, 0, 0, 1, 1, 1};
  const std::vector<int> batch = alike_batches(routes, given, 10);
  EXPECT_EQ(batch, (std::vector<int>{0, 1, 0, 1, 0, 1}));
  EXPECT_EQ(distinct_experts(routes, given), 5 + 5);
  EXPECT_EQ(distinct_experts(routes, batch), 6);
}

TEST(AlikeBatches, KeepTheGivenSizesAndAreNeverWorseThanTheGivenOrder) {
  std::mt19937 random(7);
  double given_sum = 0, found_sum = 0, best_sum = 0;
  for (int trial = 0; trial < 200; ++trial) {
    const std::size_t n = 4 + random() % 5;
    std::vector<RouteBits> routes;
    for (std::size_t i = 0; i < n; ++i) {
      // Two topics, each with experts of its own, and some that both want.
      const int topic = static_cast<int>(random() % 2) * 6;
      routes.push_back(of({topic + static_cast<int>(random() % 8), topic + static_cast<int>(random() % 8)}));
    }
    std::vector<int> given(n, 0);
    for (std::size_t i = (n + 1) / 2; i < n; ++i) given[i] = 1;
    const std::vector<int> batch = alike_batches(routes, given, 10);
    EXPECT_EQ(std::ranges::count(batch, 1), std::ranges::count(given, 1));
    EXPECT_LE(distinct_experts(routes, batch), distinct_experts(routes, given));
    const int best = fewest_by_trying_all(routes, n / 2);
    EXPECT_GE(distinct_experts(routes, batch), best);
    given_sum += distinct_experts(routes, given);
    found_sum += distinct_experts(routes, batch);
    best_sum += best;
  }
  EXPECT_LT(found_sum - best_sum, 0.5 * (given_sum - best_sum)) << "most of what could be gained is";
}

TEST(AlikeBatches, LeaveASingleBatchAlone) {
  const std::vector<RouteBits> routes = {of({0}), of({1}), of({0})};
  EXPECT_EQ(alike_batches(routes, std::vector<int>{0, 0, 0}, 10), (std::vector<int>{0, 0, 0}));
  EXPECT_EQ(alike_batches({}, {}, 10), std::vector<int>());
}

TEST(LikeliestRoutes, AreTheTopKOfEachLayerWithoutWhatIsRuledOut) {
  const std::vector<float> forecast = {0.1F, 0.9F, 0.5F, 0, 0, 0, 0.2F, 0};
  EXPECT_EQ(likeliest_routes(forecast, 2, 4, 2), of({1, 2, 6}));
}

}  // namespace
}  // namespace expertscope
