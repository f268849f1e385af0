#include "engine/model/routing.h"

#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <set>

#include <gtest/gtest.h>

#include "engine/error.h"

namespace expertscope {
namespace {

struct Routed {
  std::vector<std::uint16_t> ids;
  std::vector<float> weights, probabilities;
};

Routed routed(const RouterRule& rule, const std::vector<float>& logits) {
  const auto k = static_cast<std::size_t>(rule.top_k);
  Routed out{std::vector<std::uint16_t>(k), std::vector<float>(k), std::vector<float>(logits.size())};
  route(rule, logits, out.ids, out.weights, out.probabilities);
  return out;
}

RouterRule rule(int experts, int top_k) {
  RouterRule r;
  r.experts = experts;
  r.top_k = top_k;
  return r;
}

TEST(Routing, TakesTheBestFirstAndRenormalises) {
  const Routed r = routed(rule(4, 2), {0.5f, 2.0f, -1.0f, 3.0f});
  EXPECT_EQ(r.ids, (std::vector<std::uint16_t>{3, 1}));
  EXPECT_NEAR(r.weights[0], 1 / (1 + std::exp(-1.0)), 1e-6);
  EXPECT_NEAR(r.weights[0] + r.weights[1], 1, 1e-6);
  EXPECT_NEAR(std::accumulate(r.probabilities.begin(), r.probabilities.end(), 0.0), 1, 1e-6);
}

TEST(Routing, GivesTiesToTheLowerIndex) {
  EXPECT_EQ(routed(rule(5, 3), {1, 1, 1, 1, 1}).ids, (std::vector<std::uint16_t>{0, 1, 2}));
  EXPECT_EQ(routed(rule(5, 3), {0, 1, 0, 1, 0}).ids, (std::vector<std::uint16_t>{1, 3, 0}));
}

TEST(Routing, KeepsApartWhatProbabilitiesWouldTie) {
  // Both probabilities round to the same float; the logits do not.
  EXPECT_EQ(routed(rule(3, 1), {80.0f, -60.0f, std::nextafter(80.0f, 81.0f)}).ids[0], 2);
  EXPECT_EQ(routed(rule(3, 2), {100.0f, -60.0f, -50.0f}).ids, (std::vector<std::uint16_t>{0, 2}));
}

TEST(Routing, FollowsEveryStepOfTheRule) {
  const std::vector<float> logits = {1, 3, 2};
  RouterRule plain = rule(3, 2);
  plain.renormalise = false;
  const double sum = std::exp(1) + std::exp(2) + std::exp(3);
  EXPECT_NEAR(routed(plain, logits).weights[1], std::exp(2) / sum, 1e-6);

  RouterRule scaled = plain;
  scaled.scale = 2.5f;
  EXPECT_NEAR(routed(scaled, logits).weights[1], 2.5 * std::exp(2) / sum, 1e-6);

  RouterRule selected = plain;
  selected.gate = RouterGate::none;
  selected.softmax_on_selected = true;
  EXPECT_NEAR(routed(selected, logits).weights[0], 1 / (1 + std::exp(-1.0)), 1e-6);

  RouterRule sigmoid = rule(3, 2);
  sigmoid.gate = RouterGate::sigmoid;
  const double a = 1 / (1 + std::exp(-3.0)), b = 1 / (1 + std::exp(-2.0));
  EXPECT_NEAR(routed(sigmoid, logits).weights[0], a / (a + b), 1e-6);
}

TEST(Routing, AlwaysGivesDistinctExpertsThatExist) {
  std::mt19937 random(3);
  for (int round = 0; round < 2000; ++round) {
    const int experts = 1 + static_cast<int>(random() % 64),
              top_k = 1 + static_cast<int>(random() % static_cast<unsigned>(std::min(experts, kMaxTopK)));
    std::vector<float> logits(static_cast<std::size_t>(experts));
    for (float& logit : logits) logit = static_cast<float>(random() % 7) - 3;  // many ties
    const Routed r = routed(rule(experts, top_k), logits);
    EXPECT_EQ(std::set(r.ids.begin(), r.ids.end()).size(), r.ids.size());
    for (std::size_t j = 0; j < r.ids.size(); ++j) {
      ASSERT_LT(r.ids[j], experts);
      if (j > 0) {
        ASSERT_GE(logits[r.ids[j - 1]], logits[r.ids[j]]);
      }
    }
  }
}

TEST(Routing, ThrowsForARouterThatSaysNaN) {
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    EXPECT_THROW(routed(rule(3, 2), {1, bad, 2}), RunError);
  }
}

}  // namespace
}  // namespace expertscope
