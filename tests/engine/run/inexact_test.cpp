// Every inexact action is counted, and what makes a policy inexact can be turned off.
#include "engine/inexact.h"

#include <algorithm>
#include <map>
#include <set>

#include <gtest/gtest.h>

#include "engine/machines/layer_routing.h"
#include "engine/run/exact_shadow.h"
#include "tests/engine/emulated_run.h"

namespace expertscope {
namespace {

constexpr int kTokens = 16;

RunOptions& with_prior(EmulatedRun& run) {
  const ModelDescription& d = demo_model().description();
  run.options.prior =
      load_prior(std::string(ES_ASSETS_DIR) + "/model/tidepool-42m-moe.prior.json", d.layers, d.router.experts);
  return run.options;
}

// Prompts, so that inexact prefill counts as well.
const char* const kPrompts[] = {kTale, "def area(radius):\n    return"};

struct WatchedRun {
  WatchedRun(const std::string& policy, double ratio)
      : run(policy, ratio), shadow(demo_model(), run.pool, EmulatedRun::kChunk, 1, 1000) {
    with_prior(run);
    run.runner().set_shadow(&shadow);
    for (const char* prompt : kPrompts) run.generate(prompt, kTokens);
    for (const QualityRecord& q : run.events.quality) {
      quality.kl_sum += q.kl_sum;
      quality.shadowed += q.shadowed;
      quality.agreed += q.agreed;
    }
  }
  EmulatedRun run;
  ExactShadow shadow;
  QualityRecord quality;
};

// Steps with an inexact action, by the records of demands.
std::set<std::uint32_t> recorded_inexact(const RecordedEvents& e) {
  std::set<std::uint32_t> steps;
  for (const DemandRecord& d : e.demands) {
    if (is_inexact(d)) steps.insert(d.step);
  }
  return steps;
}

// The same by the work that was done: where an expert ran on other rows than the router gave it, below native
// precision, or before its router was done. Weights leave no trace in it.
std::set<std::uint32_t> worked_inexact(const RecordedEvents& e) {
  using Key = std::pair<std::uint32_t, std::uint16_t>;  // step, layer
  std::map<Key, std::map<std::uint16_t, int>> asked, ran;
  for (const RouteRecord& r : e.routes) {
    for (std::size_t k = 0; k < r.picks; ++k) ++asked[{r.step, r.layer}][r.expert[k]];
  }
  std::map<Key, TimeNs> routed;
  std::set<std::uint32_t> steps;
  for (const WorkRecord& w : e.works) {
    if (w.kind == WorkKind::attention) routed[{w.step, w.layer}] = w.end_ns;
  }
  for (const WorkRecord& w : e.works) {
    if (w.kind != WorkKind::expert || w.tokens == 0) continue;  // padding alone is nobody's
    ran[{w.step, w.layer}][w.expert] += w.tokens;
    if (w.precision != Precision::native || w.start_ns < routed.at({w.step, w.layer})) steps.insert(w.step);
  }
  for (const auto& [key, experts] : asked) {
    if (ran[key] != experts) steps.insert(key.first);
  }
  return steps;
}

// The upper half of each layer's experts has the higher bit-width, the lower half the lower one.
void expect_each_in_its_own_bits(const std::vector<double>& int8_int4, const std::vector<double>& int4_int2,
                                 Precision higher, Precision lower) {
  EmulatedRun run("edgemoe", 0.1);
  const ModelDescription& d = demo_model().description();
  const auto matters = [&](std::uint16_t expert) { return expert >= d.router.experts / 2; };
  ExpertImportance& importance = with_prior(run).prior->importance;
  importance = {.loss_rise = {}, .int8_int4 = int8_int4, .int4_int2 = int4_int2};
  for (int l = 0; l < d.layers; ++l) {
    std::vector<double>& of_layer = importance.loss_rise.emplace_back();
    for (int e = 0; e < d.router.experts; ++e) of_layer.push_back(matters(static_cast<std::uint16_t>(e)) ? 1 : 0);
  }
  run.generate(kTale, kTokens);
  int early = 0, in_lower = 0, in_higher = 0;
  for (const CopyRecord& copy : run.events.copies) {
    EXPECT_EQ(copy.precision, matters(copy.expert) ? higher : lower) << copy.layer << ", " << copy.expert;
    early += copy.reason == CopyReason::prefetch ? 1 : 0;
  }
  for (const WorkRecord& work : run.events.works) {
    if (work.kind != WorkKind::expert) continue;
    EXPECT_EQ(work.precision, matters(work.expert) ? higher : lower) << work.layer << ", " << work.expert;
    ++(matters(work.expert) ? in_higher : in_lower);
  }
  EXPECT_GT(early, 0) << "early copies too are in an expert's own bits";
  EXPECT_GT(std::min(in_lower, in_higher), 0);
}

// Half of the experts in the lower bit-width cost just what the paper tolerates, 2 % of the loss.
TEST(Inexact, EdgemoeCopiesAndRunsEachExpertInItsOwnBits) {
  const std::vector<double> half = {0, 0, 0, 0, 0.02, 1, 1, 1, 1};
  expect_each_in_its_own_bits(std::vector<double>(half.size(), 0.0), half, Precision::int4, Precision::int2);
  const std::vector<double> too_dear(half.size(), 0.03);  // all in int4 alone
  expect_each_in_its_own_bits(half, too_dear, Precision::int8, Precision::int4);
}

TEST(Inexact, EveryActionOfALossyPolicyIsCounted) {
  for (const char* policy :
       {"hobbit", "hobbit:gate.skip_above=0.7,precision.low_above=0.55", "adapmoe", "adapmoe:gate.tolerance=0.02",
        "on-demand:gate=pruned", "on-demand:gate=pruned,gate.share=0,gate.zero_below=0.4",
        "on-demand:gate=static-capacity,gate.factor=0.1", "on-demand:precision=lowered,precision.bits=int4", "edgemoe",
        "lookahead:gate=pruned,gate.renormalise=0"}) {
    SCOPED_TRACE(policy);
    const WatchedRun lossy(policy, 0.25);
    EXPECT_EQ(recorded_inexact(lossy.run.events), worked_inexact(lossy.run.events));
  }
}

// DAOP executes predictions from layer 5 on: even where they come true, they weigh otherwise than the router says.
TEST(Inexact, EveryTokenThatABypassedRouterDecodedIsCounted) {
  for (double ratio : {0.25, 1.0}) {
    const WatchedRun daop("daop", ratio);
    std::set<std::uint32_t> decoded;
    for (const StepRecord& s : daop.run.events.steps) {
      if (s.phase == Phase::decode) decoded.insert(s.step);
    }
    EXPECT_EQ(recorded_inexact(daop.run.events), decoded) << ratio;
    EXPECT_GT(daop.quality.kl_sum, 0) << ratio;
  }
}

// Greedy tokens where weak second choices are left out, by the arithmetic alone.
std::vector<std::int32_t> without_weak_choices(std::vector<std::int32_t> ids, int tokens, float zero_below) {
  const ModelDescription& d = demo_model().description();
  ThreadPool pool(1);
  Arithmetic arithmetic(demo_model(), pool, EmulatedRun::kChunk, 1);
  std::vector<std::int32_t> output;
  for (int position = 0; static_cast<int>(output.size()) < tokens;) {
    std::vector<TokenInput> step;
    for (std::int32_t id : ids) step.push_back({.id = id, .position = position++});
    step.back().wants_logits = true;
    arithmetic.begin_step(step);
    for (int l = 0; l < d.layers; ++l) {
      arithmetic.attention(l);
      arithmetic.router(l);
      for (int t = 0; t < static_cast<int>(step.size()); ++t) {
        RouteRecord r = route_record(d.router, 0, l, t, arithmetic.router_logits(t));
        for (int k = 0; k < r.picks; ++k) {
          float& weight = r.weight[static_cast<std::size_t>(k)];
          if (k > 0 && weight < zero_below) weight = 0;
          const Arithmetic::ExpertRow row{t, k};
          const ExpertId id{static_cast<std::uint16_t>(l), r.expert[static_cast<std::size_t>(k)]};
          if (weight > 0) arithmetic.expert(l, demo_model().expert_blob(id), {&row, 1});
        }
        arithmetic.combine(l, t, {r.weight.data(), r.picks});
      }
    }
    arithmetic.head();
    const std::span<const float> logits = arithmetic.logits(static_cast<int>(step.size()) - 1);
    output.push_back(static_cast<std::int32_t>(std::ranges::max_element(logits) - logits.begin()));
    ids = {output.back()};
  }
  return output;
}

TEST(Inexact, WhatAGateLeavesOutIsNotInTheSum) {
  EmulatedRun run("on-demand:gate=pruned,gate.share=0,gate.zero_below=0.45", 0.25);
  const auto expected = without_weak_choices(demo_model().tokenizer().encode(kTale), 12, 0.45f);
  EXPECT_EQ(run.generate(kTale, 12), expected);
}

// The device starts by itself what was decided a layer ahead, in the version that is resident.
TEST(Inexact, APredictedLayerRunsTheVersionThatItsSlotsHold) {
  const WatchedRun daop("daop:precision=lowered,precision.bits=int4", 1.0);
  EXPECT_LT(daop.quality.kl_sum / static_cast<double>(daop.quality.shadowed), 1);
}

TEST(Inexact, WithItsLossyKnobOffALossyPolicyIsExact) {
  EmulatedRun resident("resident", 1);
  std::vector<std::vector<std::int32_t>> expected;
  for (const char* prompt : kPrompts) expected.push_back(resident.generate(prompt, kTokens));
  for (const char* policy : {"daop:gate=router", "hobbit:gate.skip_above=1,precision.low_above=1",
                             "hobbit:gate=router,precision=native", "adapmoe:gate.tolerance=0",
                             "on-demand:gate=pruned,gate.share=0", "on-demand:gate=static-capacity,gate.factor=1",
                             "moe-infinity:gate=pruned,gate.share=0", "edgemoe:precision=native"}) {
    for (double ratio : {0.0, 0.125, 0.25, 0.5}) {
      SCOPED_TRACE(policy + std::string(" at ") + std::to_string(ratio));
      const WatchedRun off(policy, ratio);
      EXPECT_EQ(off.quality.shadowed, std::uint64_t{std::size(kPrompts) * kTokens});
      EXPECT_EQ(off.quality.agreed, off.quality.shadowed);
      EXPECT_EQ(off.quality.kl_sum, 0.0);
      EXPECT_TRUE(recorded_inexact(off.run.events).empty());
      std::vector<std::vector<std::int32_t>> ids(std::size(kPrompts));
      for (const TokenRecord& t : off.run.events.tokens) {
        if (t.generated) ids[t.prompt].push_back(t.id);
      }
      EXPECT_EQ(ids, expected);
    }
  }
}

}  // namespace
}  // namespace expertscope
