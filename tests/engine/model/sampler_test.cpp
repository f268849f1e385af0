#include "engine/model/sampler.h"

#include <cmath>
#include <map>

#include <gtest/gtest.h>

#include "engine/error.h"

namespace expertscope {
namespace {

std::map<std::int32_t, int> drawn(const SamplingRule& rule, const std::vector<float>& logits, int times) {
  Sampler sampler(rule);
  std::map<std::int32_t, int> counts;
  for (int i = 0; i < times; ++i) ++counts[sampler.sample(logits)];
  return counts;
}

TEST(Sampler, TakesTheBestTokenAtTemperatureZero) {
  EXPECT_EQ(greedy_token(std::vector<float>{1, 5, 5, 2}), 1);  // ties to the lower id
  EXPECT_EQ(greedy_token(std::vector<float>{NAN, -3, -2}), 2);
  EXPECT_EQ(drawn({}, {1, 3, 2}, 10), (std::map<std::int32_t, int>{{1, 10}}));
}

TEST(Sampler, DrawsByProbability) {
  const std::vector<float> logits = {std::log(0.5f), std::log(0.3f), std::log(0.2f)};
  const auto counts = drawn({.temperature = 1, .seed = 4}, logits, 20'000);
  EXPECT_NEAR(counts.at(0) / 20'000.0, 0.5, 0.02);
  EXPECT_NEAR(counts.at(1) / 20'000.0, 0.3, 0.02);
  EXPECT_NEAR(counts.at(2) / 20'000.0, 0.2, 0.02);
}

TEST(Sampler, SharpensAtLowTemperature) {
  const std::vector<float> logits = {0, 1};
  const auto counts = drawn({.temperature = 0.5, .seed = 4}, logits, 20'000);
  EXPECT_NEAR(counts.at(1) / 20'000.0, 1 / (1 + std::exp(-2.0)), 0.02);
}

TEST(Sampler, DrawsOnlyFromTheBestShare) {
  const std::vector<float> logits = {std::log(0.2f), std::log(0.5f), std::log(0.3f)};
  const auto counts = drawn({.temperature = 1, .top_p = 0.7, .seed = 1}, logits, 20'000);
  EXPECT_FALSE(counts.contains(0));
  EXPECT_NEAR(counts.at(1) / 20'000.0, 0.625, 0.02);
  EXPECT_EQ(drawn({.temperature = 1, .top_p = 0.01, .seed = 1}, logits, 100), (std::map<std::int32_t, int>{{1, 100}}));
}

TEST(Sampler, RepeatsForASeedAndDiffersBetweenSeeds) {
  std::vector<float> logits(100, 0.0f);
  const auto sequence = [&](std::uint64_t seed, double top_p) {
    Sampler sampler({.temperature = 1, .top_p = top_p, .seed = seed});
    std::vector<std::int32_t> ids;
    for (int i = 0; i < 50; ++i) ids.push_back(sampler.sample(logits));
    return ids;
  };
  EXPECT_EQ(sequence(7, 1), sequence(7, 1));
  EXPECT_EQ(sequence(7, 0.5), sequence(7, 0.5));
  EXPECT_NE(sequence(7, 1), sequence(8, 1));
  // The generator itself: these tokens are part of what a seed means.
  std::vector<std::int32_t> first = sequence(0, 1);
  first.resize(6);
  EXPECT_EQ(first, (std::vector<std::int32_t>{60, 74, 10, 41, 73, 99}));
}

TEST(Sampler, RefusesImpossibleRulesAndDamagedLogits) {
  EXPECT_THROW(Sampler({.temperature = -1}), InputError);
  EXPECT_THROW(Sampler({.temperature = NAN}), InputError);
  EXPECT_THROW(Sampler({.top_p = 0}), InputError);
  EXPECT_THROW(Sampler({.top_p = 1.1}), InputError);
  EXPECT_THROW(greedy_token(std::vector<float>{NAN, NAN}), RunError);
}

}  // namespace
}  // namespace expertscope
