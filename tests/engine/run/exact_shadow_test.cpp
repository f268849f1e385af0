// The exact computation beside a run.
#include "engine/run/exact_shadow.h"

#include <cmath>

#include <gtest/gtest.h>

#include "tests/engine/emulated_run.h"

namespace expertscope {
namespace {

struct Shadowed {
  Shadowed(const std::string& policy, double cache_ratio, std::uint64_t tokens)
      : run(policy, cache_ratio), shadow(demo_model(), run.pool, EmulatedRun::kChunk, 1, tokens) {}
  Runner& runner() {
    run.runner().set_shadow(&shadow);
    return run.runner();
  }
  QualityRecord found() const {
    QualityRecord sum;
    for (const QualityRecord& q : run.events.quality) {
      sum.tokens += q.tokens;
      sum.kl_sum += q.kl_sum;
      sum.shadowed += q.shadowed;
      sum.agreed += q.agreed;
    }
    return sum;
  }

  EmulatedRun run;
  ExactShadow shadow;
};

TEST(ExactShadow, OfAnExactPolicyFindsNoDifferenceAtAll) {
  Shadowed s("on-demand", 0.25, 40);
  s.runner().run_prompt({.workload = "", .text = kTale, .ids = {}}, 24);
  s.runner().run_prompt({.workload = "", .text = kTale, .ids = {}}, 24);
  const QualityRecord q = s.found();
  EXPECT_EQ(q.shadowed, 40u);  // of the whole run
  EXPECT_EQ(q.agreed, 40u);
  EXPECT_EQ(q.kl_sum, 0.0);
  ASSERT_EQ(s.run.events.quality.size(), 2u);
  EXPECT_EQ(s.run.events.quality[0].shadowed, 24u);
}

TEST(ExactShadow, ChangesNeitherTokensNorTimes) {
  EmulatedRun alone("hobbit", 0.25);
  const auto ids = alone.generate(kTale, 24);
  Shadowed s("hobbit", 0.25, 24);
  EXPECT_EQ(s.runner().run_prompt({.workload = "", .text = kTale, .ids = {}}, 24), ids);
  EXPECT_EQ(s.run.machine->now(), alone.machine->now());
}

TEST(ExactShadow, OfALossyPolicyFindsADifference) {
  for (const char* policy : {"daop", "hobbit", "on-demand:precision=lowered,precision.bits=int2"}) {
    Shadowed s(policy, 0.25, 1000);
    s.runner().run_prompt({.workload = "", .text = kTale, .ids = {}}, 24);
    const QualityRecord q = s.found();
    EXPECT_EQ(q.shadowed, 24u) << policy;
    EXPECT_GT(q.kl_sum, 0) << policy;
    EXPECT_LE(q.agreed, q.shadowed) << policy;
  }
}

// Beyond the context the sequence is rebuilt; the shadow's too.
TEST(ExactShadow, FollowsARebuiltContext) {
  Shadowed s("on-demand", 0.5, 100000);
  const int context = demo_model().description().context;
  std::vector<std::int32_t> ids(static_cast<std::size_t>(context) - 4);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(5 + i % 900);
  s.runner().run_prompt({.workload = "", .text = "", .ids = ids}, 8);
  const QualityRecord q = s.found();
  EXPECT_EQ(q.shadowed, 8u);
  EXPECT_EQ(q.kl_sum, 0.0);
}

TEST(ExactShadow, OfATextComparesScoredTokens) {
  Shadowed s("on-demand", 0.25, 50);
  std::vector<std::int32_t> ids(120);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(5 + i * 7 % 900);
  s.runner().run_text({.workload = "", .text = "", .ids = ids});
  const QualityRecord q = s.found();
  EXPECT_EQ(q.tokens, 119u);
  EXPECT_EQ(q.shadowed, 50u);
  EXPECT_EQ(q.kl_sum, 0.0);
}

TEST(KlDivergence, OfTwoDistributions) {
  // p = (1/2, 1/4, 1/4), q = (1/4, 1/4, 1/2): sum p log(p/q) = 1/2 log 2 - 1/4 log 2
  const float p[] = {std::log(0.5f), std::log(0.25f), std::log(0.25f)};
  const float q[] = {std::log(0.25f) + 3, std::log(0.25f) + 3, std::log(0.5f) + 3};
  EXPECT_NEAR(kl_divergence(p, q), 0.25 * std::log(2.0), 1e-6);
  EXPECT_EQ(kl_divergence(p, p), 0.0);
}

}  // namespace
}  // namespace expertscope
