// The papers' formulas against the values of tests/golden/policy_formulas.json.
#include "engine/policy/formulas.h"

#include <algorithm>
#include <fstream>
#include <numeric>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace expertscope {
namespace {

using Json = nlohmann::json;

const Json& golden() {
  static const Json values = Json::parse(std::ifstream(std::string(ES_TESTS_DIR) + "/golden/policy_formulas.json"));
  return values;
}

TEST(Formulas, HobbitPriorityEvictsTheBusierButJustPassedExpert) {
  const Json& g = golden()["hobbit_eq3"];
  std::vector<double> found;
  for (const Json& c : g["cases"]) {
    found.push_back(hobbit_priority(hobbit_per_token({}, g["tokens"]), c["last"], c["uses"], c["high"],
                                    hobbit_nearness({}, c["layer"], g["current"], g["layers"])));
    EXPECT_DOUBLE_EQ(found.back(), c["priority"].get<double>());
  }
  EXPECT_LT(found[1], found[0]);
}

TEST(Formulas, LcuWeighsMissCostAndNearness) {
  const Json& g = golden()["lcu"];
  for (const Json& c : g["cases"]) {
    EXPECT_NEAR(lcu_priority(g["high"], g["low"], g["bit_ratio"], g["tokens"], c["recent"], c["layer"], g["current"],
                             g["layers"]),
                c["priority"].get<double>(), 1e-5);
  }
}

TEST(Formulas, EdgemoePrintedEvictsTheNextLayerAndTextTheLastOne) {
  const Json& g = golden()["edgemoe"];
  for (const Json& c : g["printed"])
    EXPECT_NEAR(edgemoe_printed(g["frequency"], c["layer"], g["current"], g["layers"]), c["score"].get<double>(), 5e-5);
  for (const Json& c : g["text"])
    EXPECT_NEAR(edgemoe_text(g["frequency"], c["layer"], g["current"], g["layers"]), c["score"].get<double>(), 1e-12);
  EXPECT_EQ(edgemoe_printed(0.3, 5, 5, 12), -std::numeric_limits<double>::infinity()) << "the current layer stays";
}

TEST(Formulas, AdapmoeCostOfALayer) {
  const Json& g = golden()["adapmoe"];
  for (const Json& c : g["cost"]) {
    const double r = c["single"], a = c["accuracy"];
    EXPECT_NEAR(adapmoe_cost(g["experts"], c["slots"], std::vector<double>{r, 1 - r}, a), c["cost"].get<double>(),
                5e-8);
  }
}

// The code's own form for 8 experts and top-2.
TEST(Formulas, AdapmoeCostIsTheCodesFormForEightExpertsAndTopTwo) {
  for (int s = 0; s <= 8; ++s) {
    for (const double r : {0.0, 0.3, 1.0}) {
      for (const double a : {0.0, 0.57, 1.0}) {
        const double p2 = (8.0 - s) * (7.0 - s) / 56, p1 = 2 * (8.0 - s) * s / 56;
        const double f = r * (1 - s / 8.0) * (1 - a) + (1 - r) * (2 * p2 * (1 - a) + p2 * a + p1 * (1 - a));
        EXPECT_NEAR(adapmoe_cost(8, s, std::vector<double>{r, 1 - r}, a), f, 1e-12) << s << " " << r << " " << a;
      }
    }
  }
}

TEST(Formulas, AdapmoeSplitGivesSlotsWhereTheyHelpMost) {
  const Json& g = golden()["adapmoe"];
  std::vector<std::vector<double>> picked;
  std::vector<double> accuracy;
  for (const Json& layer : g["layers"]) {
    const double r = layer["single"];
    picked.push_back({r, 1 - r});
    accuracy.push_back(layer["accuracy"]);
  }
  for (const Json& c : g["splits"]) {
    const AdapmoeSplit split = adapmoe_split(g["experts"], c["total"], picked, accuracy);
    EXPECT_EQ(split.slots, c["slots"].get<std::vector<int>>());
    EXPECT_NEAR(split.cost, c["cost"].get<double>(), 1e-12);
  }
  for (int total = 0; total <= 30; ++total) {
    const AdapmoeSplit split = adapmoe_split(8, total, picked, accuracy);
    EXPECT_LE(std::accumulate(split.slots.begin(), split.slots.end(), 0), total);
    EXPECT_LE(std::ranges::max(split.slots), 8);
  }
}

TEST(Formulas, FiddlersCodeComputesUpToNineTokensOnTheCpu) {
  const Json& g = golden()["fiddler"];
  for (int tokens = 1; tokens <= 20; ++tokens) {
    EXPECT_EQ(runs_on_cpu(g["cpu_for_each_token"].get<double>() * tokens, g["load"], false),
              tokens <= g["most_tokens_on_cpu"].get<int>());
  }
  EXPECT_TRUE(runs_on_cpu(70, 70, true)) << "the paper copies only when the CPU takes longer";
}

TEST(Formulas, TwoPointersShareALayerAsHybrimoesCodeDoes) {
  const Json& g = golden()["hybrimoe_code"];
  for (const Json& c : g["cases"]) {
    SCOPED_TRACE(c.dump());
    const double per_token = c.value("cpu_for_each_token", g["cpu_for_each_token"].get<double>());
    std::vector<ScheduledExpert> experts(c["cached"].get<std::size_t>(), {.tokens = 1, .cached = true});
    experts.resize(experts.size() + c["uncached"].get<std::size_t>());
    const ScheduleCosts costs{.gpu = [&](int) { return g["gpu"].get<double>(); },
                              .cpu = [&](int tokens) { return per_token * tokens; },
                              .move = g["move"],
                              .first_cpu = g["first_cpu"]};
    const Schedule s = two_pointer_schedule(experts, costs);
    EXPECT_EQ(std::ranges::count(s.on_cpu, 1), c["on_cpu"].get<int>());
    EXPECT_EQ(std::ranges::count(s.on_cpu, 0), c["on_gpu"].get<int>());
    if (c.contains("gpu")) {
      EXPECT_NEAR(s.gpu, c["gpu"].get<double>(), 1e-12);
    }
    if (c.contains("cpu")) {
      EXPECT_NEAR(s.cpu, c["cpu"].get<double>(), 1e-12);
    }
  }
}

ScheduleCosts costs_of(double gpu, double cpu, double move) {
  return {.gpu = [gpu](int) { return gpu; }, .cpu = [cpu](int tokens) { return cpu * tokens; }, .move = move};
}

TEST(Formulas, TimelinesComputeAllMissesWhereTheLinkIsSlowAndMoveAllWhereTheCpuIs) {
  const std::vector<ScheduledExpert> experts = {{.tokens = 1, .cached = true}, {.tokens = 1}, {.tokens = 1}};
  EXPECT_EQ(timelines_schedule(experts, costs_of(0.1, 1, 100)).on_cpu, (std::vector<std::uint8_t>{0, 1, 1}));
  EXPECT_EQ(timelines_schedule(experts, costs_of(0.1, 100, 1)).on_cpu, (std::vector<std::uint8_t>{0, 0, 0}));
}

TEST(Formulas, TimelinesSendTheHeavyExpertOverTheLinkAndTheLightOneToTheCpu) {
  const std::vector<ScheduledExpert> experts = {{.tokens = 1}, {.tokens = 50}};
  const Schedule s = timelines_schedule(experts, costs_of(0.1, 1, 2));
  EXPECT_EQ(s.on_cpu, (std::vector<std::uint8_t>{1, 0}));
  EXPECT_NEAR(s.gpu, 2.1, 1e-12);
  EXPECT_NEAR(s.makespan(), 2.1, 1e-12);
}

TEST(Formulas, AnIdleCpuTakesCachedExpertsFewTokensFirst) {
  const std::vector<ScheduledExpert> experts = {{.tokens = 9, .cached = true}, {.tokens = 1, .cached = true}};
  EXPECT_EQ(timelines_schedule(experts, costs_of(10, 2, 1)).on_cpu, (std::vector<std::uint8_t>{0, 1}));
}

TEST(Formulas, SmoothedScoresOfTheRouter) {
  const Json& g = golden()["mrs"];
  for (const Json& c : g["cases"])
    EXPECT_NEAR(smoothed_score(c["before"], c["seen"], c["in_top"], g["weight"]), c["after"].get<double>(), 1e-12);
  EXPECT_EQ(smoothed_top(g["top_k"], g["experts"]), g["top"].get<int>());
  EXPECT_EQ(smoothed_top(6, 8), 8);
}

TEST(Formulas, FreetokensIntegersOfFetchedMisses) {
  for (const Json& c : golden()["freetoken"]["cases"]) {
    EXPECT_EQ(fetched_of(c["misses"], c["numerator"].get<double>() / c["denominator"].get<double>()),
              c["fetched"].get<int>())
        << c.dump();
  }
  EXPECT_EQ(fetched_of(5, 1), 5);
  EXPECT_EQ(fetched_of(5, 0), 0);
}

// One batch after another asks for 1, 2 and 3 in this order; two slots. As the paper plays it: an expert is asked for
// when its turn comes, so one that waits for its turn may be evicted before.
TEST(Formulas, InactiveLifoMissesTwiceForEachBatchOfAScanWhereFifoAndLruMissThrice) {
  const Json& g = golden()["scan"];
  enum class Rule { inactive_lifo, fifo, lru };
  const auto misses_of_batches = [&](Rule rule) {
    struct Resident {
      int expert = 0;
      std::uint64_t inserted = 0, used = 0;
    };
    std::vector<Resident> cache;
    std::vector<int> misses, evicted;
    std::uint64_t clock = 0;
    for (int batch = 0; batch < 4; ++batch) {
      misses.push_back(0);
      for (const int e : g["batch"].get<std::vector<int>>()) {
        ++clock;
        const auto hit = std::ranges::find(cache, e, &Resident::expert);
        if (hit != cache.end()) {
          hit->used = clock;
          continue;
        }
        ++misses.back();
        if (cache.size() == g["slots"].get<std::size_t>()) {
          const auto keep = [&](const Resident& r) {
            if (rule == Rule::inactive_lifo) return inactive_lifo_priority(true, r.used, r.inserted);
            return static_cast<double>(rule == Rule::fifo ? r.inserted : r.used);
          };
          const auto victim = std::ranges::min_element(cache, {}, keep);
          evicted.push_back(victim->expert);
          cache.erase(victim);
        }
        cache.push_back({.expert = e, .inserted = clock, .used = clock});
      }
    }
    if (rule == Rule::inactive_lifo) {
      EXPECT_EQ(evicted.front(), g["first_evicted"].get<int>());
    }
    return misses;
  };
  const int first = g["first_batch"];
  const auto expected = [&](const char* name) {
    const int n = g[name];
    return std::vector<int>{first, n, n, n};
  };
  EXPECT_EQ(misses_of_batches(Rule::inactive_lifo), expected("inactive_lifo"));
  EXPECT_EQ(misses_of_batches(Rule::fifo), expected("fifo"));
  EXPECT_EQ(misses_of_batches(Rule::lru), expected("lru"));
}

TEST(Formulas, AnInactiveExpertLeavesBeforeAnActiveOne) {
  EXPECT_LT(inactive_lifo_priority(false, 1'000'000, 5), inactive_lifo_priority(true, 1, 5));
  EXPECT_LT(inactive_lifo_priority(false, 3, 9), inactive_lifo_priority(false, 4, 1));
}

TEST(Formulas, StaticGatingComputesManyRowsForOneThatIsWanted) {
  for (const Json& c : golden()["static_gating_waste"])
    EXPECT_DOUBLE_EQ(static_gating_waste(c["experts"], c["factor"], c["top_k"]), c["waste"].get<double>());
}

TEST(Formulas, GreedyBalancingGivesTheBusiestExpertsToTheLeastLoadedDevices) {
  const Json& g = golden()["greedy_balance"];
  const auto loads = g["loads"].get<std::vector<double>>();
  const std::vector<int> device = balance_greedily(loads, g["devices"]);
  EXPECT_EQ(device, g["device"].get<std::vector<int>>());
  EXPECT_DOUBLE_EQ(maximum_load(loads, device), g["maximum_load"].get<double>());
  EXPECT_DOUBLE_EQ(maximum_load(loads, balance_evenly(4, 2)), 0.7);
}

TEST(Formulas, AntiCorrelationPartsExpertsThatAreBusyTogether) {
  const std::vector<double> loads = {0.3, 0.3, 0.2, 0.2};
  EXPECT_EQ(balance_greedily(loads, 2), (std::vector<int>{0, 1, 0, 1}));
  // 0 and 2 come together, so do 1 and 3.
  const std::vector<double> together = {1, -1, 1, -1, -1, 1, -1, 1, 1, -1, 1, -1, -1, 1, -1, 1};
  EXPECT_EQ(balance_apart(loads, together, 2), (std::vector<int>{0, 0, 1, 1}));
  EXPECT_DOUBLE_EQ(pearson(std::vector<double>{1, 2, 3}, std::vector<double>{2, 4, 6}), 1);
  EXPECT_DOUBLE_EQ(pearson(std::vector<double>{1, 2, 3}, std::vector<double>{3, 2, 1}), -1);
  EXPECT_DOUBLE_EQ(pearson(std::vector<double>{1, 1, 1}, std::vector<double>{3, 2, 1}), 0);
}

TEST(Formulas, EveryDeviceHasRoomForTheSameNumberOfExperts) {
  for (const int devices : {1, 3, 4, 7}) {
    std::vector<double> loads;
    for (int e = 0; e < 10; ++e) loads.push_back(1.0 / (1 + e));
    for (const std::vector<int>& device : {balance_evenly(10, devices), balance_greedily(loads, devices)}) {
      for (int d = 0; d < devices; ++d)
        EXPECT_EQ(std::ranges::count(device, d), 10 / devices + (d < 10 % devices ? 1 : 0)) << devices;
    }
  }
}

TEST(Formulas, ExpertflowsSlotsFollowTheDemandOfTheNearestLayer) {
  const Json& g = golden()["expertflow_slots"];
  const auto demand = g["demand"].get<std::vector<int>>();
  EXPECT_EQ(slots_layer_first(demand, g["total"]), g["layer_first"].get<std::vector<int>>());
  EXPECT_EQ(slots_proportional(std::vector<int>{3, 2}, 4), (std::vector<int>{2, 2}));
  EXPECT_EQ(slots_proportional(std::vector<int>{2, 2, 2}, 4), (std::vector<int>{2, 1, 1}));
  EXPECT_EQ(slots_proportional(std::vector<int>{1, 1}, 4), (std::vector<int>{1, 1}));
  EXPECT_EQ(slots_layer_first(std::vector<int>{}, 4), std::vector<int>{});
}

TEST(Formulas, ActivationMatricesFavourLikelyAndEarlyExperts) {
  EXPECT_GT(activation_priority(0.2, 1, 8), activation_priority(0.1, 1, 8));
  EXPECT_GT(activation_priority(0.2, 1, 8), activation_priority(0.2, 5, 8));
  EXPECT_GT(activation_priority(0, 1, 8), activation_priority(0, 5, 8));
  EXPECT_DOUBLE_EQ(activation_proximity(2, 8), 0.75);
}

TEST(Formulas, LfruDividesUsesByAge) {
  EXPECT_DOUBLE_EQ(lfru_priority(6, 8, 10), 2);
  EXPECT_DOUBLE_EQ(lfru_priority(6, 10, 10), 6);
}

}  // namespace
}  // namespace expertscope
