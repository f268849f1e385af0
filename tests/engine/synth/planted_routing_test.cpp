// What is planted in embeddings, routers and texts, and what it does to the picks.
#include <cmath>
#include <map>
#include <set>

#include <gtest/gtest.h>

#include "engine/error.h"
#include "engine/synth/routing_statistics.h"
#include "engine/synth/synth_plan.h"

namespace expertscope {
namespace {

// A published shape with fewer layers, to be quick.
SynthShape two_layers(std::string_view name) {
  SynthShape shape = find_synth_shape(name);
  shape.layers = 2;
  return shape;
}

RoutingStatistics statistics_of(const SynthShape& shape, SynthRouting routing) {
  const PlantedRouting planted(shape, routing, 7);
  return measure_routing(shape, planted, planted.stream(4096), 2);
}

double dot(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

TEST(PlantedRouting, EmbeddingsOfAClusterShareADirectionAndThoseOfOthersDoNot) {
  const SynthShape& shape = find_synth_shape("tiny");
  const PlantedRouting planted(shape, SynthRouting::bursty, 1);
  const auto embedding = [&](int token) {
    std::vector<float> v(static_cast<std::size_t>(shape.width));
    planted.embedding(token, v);
    return v;
  };
  const std::vector<float> a = embedding(304), same = embedding(304 + 5 * shape.clusters), other = embedding(305);
  const double square = PlantedRouting::kEmbeddingRms * PlantedRouting::kEmbeddingRms * shape.width;
  EXPECT_NEAR(dot(a, a) / square, 1, 1e-3);
  EXPECT_NEAR(dot(a, same) / square, 0.5, 0.15);
  EXPECT_NEAR(dot(a, other) / square, 0, 0.15);
}

TEST(PlantedRouting, UniformPicksAreEvenAndTokensHaveNothingInCommon) {
  for (const SynthShape& s : synth_shapes()) {
    SCOPED_TRACE(s.name);
    const RoutingStatistics r = statistics_of(two_layers(s.name), SynthRouting::uniform);
    EXPECT_NEAR(r.next_token_overlap, static_cast<double>(s.top_k) / s.experts, 0.04);
    EXPECT_LT(r.gini, 0.2);
  }
}

TEST(PlantedRouting, BurstyPicksComeBackAtTheNextTokenAndAllExpertsTakePart) {
  for (const SynthShape& s : synth_shapes()) {
    SCOPED_TRACE(s.name);
    const RoutingStatistics bursty = statistics_of(two_layers(s.name), SynthRouting::bursty);
    EXPECT_GT(bursty.next_token_overlap, 1.5 * s.top_k / s.experts);
    EXPECT_GT(bursty.next_token_overlap, 0.3);
    // Over many passages popularity evens out.
    EXPECT_LT(bursty.gini, statistics_of(two_layers(s.name), SynthRouting::zipf).gini);
  }
}

TEST(PlantedRouting, ZipfPicksFollowTheLawWhateverTheText) {
  const SynthShape shape = two_layers("mixtral-8x7b");
  const PlantedRouting planted(shape, SynthRouting::zipf, 3);
  const RoutingStatistics r = statistics_of(shape, SynthRouting::zipf);
  // Gumbel top-2 of 8 with weights 1/rank^1.2: the first expert is among the two of 73 % of the tokens.
  EXPECT_NEAR(r.top_10_percent_share, 0.73 / 2, 0.04);
}

TEST(PlantedRouting, ABurstyTextStaysInAClusterFor64TokensAndThenLeavesIt) {
  const PlantedRouting planted(find_synth_shape("tiny"), SynthRouting::bursty, 5);
  const std::vector<std::int32_t> ids = planted.stream(4096);
  ASSERT_EQ(ids.size(), 4096U);
  std::set<int> clusters;
  std::set<std::int32_t> distinct(ids.begin(), ids.end());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    ASSERT_GE(ids[i], kSynthOrdinary);
    ASSERT_LT(ids[i], find_synth_shape("tiny").vocab);
    clusters.insert(planted.cluster_of(ids[i]));
    if (i % 64 != 0) {
      EXPECT_EQ(planted.cluster_of(ids[i]), planted.cluster_of(ids[i - 1])) << i;
    } else if (i > 0) {
      EXPECT_NE(planted.cluster_of(ids[i]), planted.cluster_of(ids[i - 1])) << i;
    }
  }
  EXPECT_EQ(clusters.size(), 8U);
  EXPECT_GT(distinct.size(), 700U) << "of 765 ordinary tokens";
}

TEST(PlantedRouting, ADriftingTextHasOtherClustersInItsSecondHalf) {
  const PlantedRouting planted(find_synth_shape("tiny"), SynthRouting::drift, 5);
  const std::vector<std::int32_t> ids = planted.stream(4096);
  std::set<int> before, after;
  for (std::size_t i = 0; i < ids.size(); ++i) (i < 2048 ? before : after).insert(planted.cluster_of(ids[i]));
  EXPECT_EQ(before, (std::set<int>{0, 1, 2, 3}));
  EXPECT_EQ(after, (std::set<int>{4, 5, 6, 7}));
}

TEST(PlantedRouting, AnotherSeedIsAnotherTextAndAnotherRouter) {
  const SynthShape& shape = find_synth_shape("tiny");
  const PlantedRouting one(shape, SynthRouting::bursty, 1), two(shape, SynthRouting::bursty, 2);
  EXPECT_NE(one.stream(4096), two.stream(4096));
  EXPECT_EQ(one.stream(4096), PlantedRouting(shape, SynthRouting::bursty, 1).stream(4096));
  std::vector<float> a(static_cast<std::size_t>(shape.experts * shape.width)), b = a;
  one.router(0, a);
  two.router(0, b);
  EXPECT_NE(a, b);
}

TEST(RoutingStatistics, CountReuseFromTheTokenBeforeToNever) {
  const RoutingStatistics r = statistics_of(two_layers("tiny"), SynthRouting::bursty);
  std::int64_t picks = 0;
  for (const std::int64_t n : r.reuse) picks += n;
  EXPECT_EQ(picks, std::int64_t{r.tokens} * 2 * 2);
  EXPECT_NEAR(static_cast<double>(r.reuse[0]) / static_cast<double>(picks), r.next_token_overlap, 1e-12);
  EXPECT_EQ(r.first.size(), 32U);
  for (const auto& token : r.first) {
    for (const auto& route : token) EXPECT_GE(route.margin, 0);
  }
}

TEST(SynthNames, UnknownOnesAreRefusedWithTheListOfThoseThereAre) {
  const auto refusal = [](auto&& find) -> std::string {
    try {
      find();
    } catch (const InputError& e) {
      return e.what();
    }
    return "accepted";
  };
  EXPECT_EQ(refusal([] { find_synth_shape("llama"); }),
            "--shape: 'llama' is not known: choose one of tiny, mixtral-8x7b, qwen3-30b-a3b, olmoe-1b-7b");
  EXPECT_EQ(refusal([] { find_synth_routing("zip"); }),
            "--routing: 'zip' is not known: choose one of uniform, zipf, bursty, drift");
  EXPECT_EQ(refusal([] { find_synth_type("q3_k"); }),
            "--type: 'q3_k' is not known: choose one of q8_0, q4_0, q4_k, q5_k, q6_k, f16, bf16");
}

}  // namespace
}  // namespace expertscope
