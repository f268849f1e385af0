// What every preset must keep whatever it decides, and what makes each published system that system.
#include <algorithm>
#include <fstream>
#include <map>
#include <set>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "engine/policy/policy.h"
#include "tests/engine/emulated_run.h"
#include "tests/engine/live_presets.h"

namespace expertscope {
namespace {

RecordedEvents run(const std::string& policy, double ratio, int tokens = 32) {
  EmulatedRun r(policy, ratio);
  r.generate(kTale, tokens);
  r.generate("The king had three sons, and the youngest of them was called", tokens);
  return r.events;
}

RecordedEvents replayed(const RecordedRun& recorded, const std::string& policy, double ratio) {
  RecordedEvents events;
  replay(recorded, {.policy = parse_policy_spec(policy), .cache_ratio = ratio}, events);
  return events;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kSchedules = 10;
#else
constexpr int kSchedules = 200;
#endif

class PresetSchedules : public testing::TestWithParam<int> {};  // a share of the schedules
constexpr int kShares = 8;

// Changes of policy, cache size and content at random token boundaries; every preset begins some schedule.
TEST_P(PresetSchedules, EveryExactPresetGivesTheTokensOfResident) {
  constexpr int kTokens = 10;
  EmulatedRun resident("resident", 1);
  std::vector<std::vector<std::int32_t>> expected;
  const std::vector<std::string> prompts = {"Once upon a time", "The king had three sons"};
  for (const std::string& p : prompts) expected.push_back(resident.generate(p, kTokens));

  const std::vector<std::string> policies = live_presets(true);
  for (int schedule = GetParam(); schedule < kSchedules; schedule += kShares) {
    std::uint64_t random = static_cast<std::uint64_t>(schedule) * 0x9e3779b97f4a7c15ULL + 1;
    const auto draw = [&](std::size_t n) {
      random = random * 6364136223846793005U + 1442695040888963407U;
      return static_cast<std::size_t>(random >> 33U) % n;
    };
    std::string history = policies[static_cast<std::size_t>(schedule) % policies.size()];
    const double first_ratio = static_cast<double>(draw(9)) / 8;
    EmulatedRun r(history, first_ratio, schedule % 4 == 3 ? "a6000x4-pcie4" : "rtx4090-pcie4");
    history += " at " + std::to_string(first_ratio);
    r.runner().set_boundary_hook([&](std::uint32_t, TimeNs) {
      if (draw(3) == 0) {
        const std::string& policy = policies[draw(policies.size())];
        history += ", " + policy;
        r.runner().apply({.kind = CommandKind::set_policy, .text = policy});
      }
      if (draw(4) == 0) {
        const double ratio = static_cast<double>(draw(9)) / 8;
        history += ", " + std::to_string(ratio);
        r.runner().apply({.kind = CommandKind::set_cache_ratio, .text = "", .value = ratio});
      }
      if (draw(9) == 0) r.runner().apply({.kind = CommandKind::reset_cache, .text = ""});
      return true;
    });
    const std::size_t prompt = draw(prompts.size());
    ASSERT_EQ(r.generate(prompts[prompt], kTokens), expected[prompt]) << history;
  }
}
INSTANTIATE_TEST_SUITE_P(Share, PresetSchedules, testing::Range(0, kShares));

TEST(Presets, AReplayUnderItsOwnPresetIsTheRunItself) {
  for (const std::string& policy : live_presets(true)) {
    SCOPED_TRACE(policy);
    const RecordedEvents live = run(policy, 0.25, 16);
    const RecordedEvents again = replayed(live.recorded(), policy, 0.25);
    ASSERT_EQ(again.demands.size(), live.demands.size());
    for (std::size_t i = 0; i < live.demands.size(); ++i) {
      ASSERT_EQ(again.demands[i].outcome, live.demands[i].outcome) << i;
      ASSERT_EQ(again.demands[i].ready_ns, live.demands[i].ready_ns) << i;
    }
    EXPECT_EQ(again.expert_copies(), live.expert_copies());
  }
}

// --- the oracle

const std::map<std::string, std::vector<std::string>>& workloads() {
  static const std::map<std::string, std::vector<std::string>> texts =
      nlohmann::json::parse(std::ifstream(std::string(ES_ASSETS_DIR) + "/model/workloads.json"));
  return texts;
}
std::vector<std::string> workload_names() {
  std::vector<std::string> names;
  for (const auto& [name, texts] : workloads()) names.push_back(name);
  return names;
}

// Its demands run on the GPU alone, as the router wants them, from copies at native precision.
bool fetches_every_demand_at_native_precision(const PresetDecl& preset) {
  const Policy policy(parse_policy_spec(preset.name));
  return policy.exact() && policy.spec.components[static_cast<std::size_t>(ComponentKind::placer)] == "fetch";
}

class Workload : public testing::TestWithParam<std::string> {};

TEST_P(Workload, TheOracleCopiesNoMoreExpertsThanAnyPresetThatFetchesEveryDemandAtNativePrecision) {
  EmulatedRun live("on-demand", 0.25);
  for (const std::string& text : workloads().at(GetParam())) live.generate(text.substr(0, 400), 8);
  const RecordedRun recorded = live.events.recorded();
  int compared = 0;
  for (double ratio : {0.0, 0.125, 0.25, 0.5, 0.75, 1.0}) {
    const std::int64_t least = replayed(recorded, "belady", ratio).expert_copies();
    for (const PresetDecl& p : preset_decls()) {
      const ReplayRequest request{.policy = parse_policy_spec(p.name), .cache_ratio = ratio};
      if (!fetches_every_demand_at_native_precision(p) || !why_not(recorded, request).empty()) continue;
      const RecordedEvents events = replayed(recorded, std::string(p.name), ratio);
      EXPECT_EQ(events.count(Outcome::gpu) + events.count(Outcome::fetched) + events.count(Outcome::streamed),
                static_cast<std::int64_t>(events.demands.size()))
          << p.name;
      EXPECT_LE(least, events.expert_copies()) << p.name << " at " << ratio;
      ++compared;
    }
  }
  EXPECT_GT(compared, 50);
}
INSTANTIATE_TEST_SUITE_P(Of, Workload, testing::ValuesIn(workload_names()),
                         [](const testing::TestParamInfo<std::string>& workload) {
                           std::string name = workload.param;
                           std::erase_if(name, [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; });
                           return name;
                         });

TEST(Presets, EveryDemandEndsInOneWay) {
  for (const std::string& policy : live_presets(true)) {
    const RecordedEvents e = run(policy, 0.25, 8);
    std::int64_t outcomes = 0;
    for (int o = 0; o < kOutcomes; ++o) outcomes += e.count(static_cast<Outcome>(o));
    EXPECT_EQ(outcomes, static_cast<std::int64_t>(e.demands.size())) << policy;
    EXPECT_EQ(e.count(Outcome::skipped) + e.count(Outcome::substituted) + e.count(Outcome::cpu_early), 0) << policy;
  }
}

// --- the request sets of the reference

const nlohmann::json& golden() {
  static const nlohmann::json values =
      nlohmann::json::parse(std::ifstream(std::string(ES_TESTS_DIR) + "/golden/policy_formulas.json"));
  return values;
}

// One layer, top-2, played by hand.
RecordedRun request_sets() {
  const nlohmann::json& sets = golden()["request_sets"]["sets"];
  const RecordedEvents real = run("on-demand", 0.25, 2);
  RecordedRun recorded;
  recorded.info = real.info;
  recorded.info.layers = 1;
  recorded.info.experts = golden()["request_sets"]["experts"];
  recorded.epochs = {real.epochs[0]};
  recorded.prompts = {real.prompts[0]};
  for (std::uint32_t s = 0; s < sets.size(); ++s) {
    recorded.steps.push_back(
        {.step = s, .first_position = s, .tokens = 1, .sampled = 1, .logits = 1, .phase = Phase::decode});
    RouteRecord r{.step = s, .layer = 0, .token = 0, .picks = 2};
    r.expert[0] = sets[s][0];
    r.expert[1] = sets[s][1];
    r.weight[0] = r.weight[1] = 0.5F;
    recorded.routes.push_back(r);
  }
  return recorded;
}

TEST(Presets, MissesOfTheReferenceRequestSetsUnderEachRule) {
  const RecordedRun recorded = request_sets();
  for (const auto& c : golden()["request_sets"]["misses"]) {
    const double ratio = c["slots"].get<double>() / 6;
    const auto misses = [&](const char* policy) { return replayed(recorded, policy, ratio).count(DemandState::miss); };
    EXPECT_EQ(misses("on-demand"), c["lru"].get<int>()) << c;
    EXPECT_EQ(misses("lfu:evictor.history=session"), c["lfu"].get<int>()) << c;
    EXPECT_EQ(misses("belady:evictor.bypass=false"), c["forced"].get<int>()) << c;
    EXPECT_EQ(misses("belady"), c["bypass"].get<int>()) << c;
    for (const char* evictor : {"fifo", "lifo", "random", "lfru", "least-stale", "mrs", "hobbit", "lcu"})
      EXPECT_GE(misses(("on-demand:evictor=" + std::string(evictor)).c_str()), c["forced"].get<int>()) << evictor;
  }
  EXPECT_EQ(replayed(recorded, "on-demand", 1).count(DemandState::miss), golden()["request_sets"]["compulsory"]);
}

TEST(Presets, LruMissesOfEachReferenceRequest) {
  const nlohmann::json& lru = golden()["request_sets"]["lru_with_3_slots"];
  const RecordedEvents e = replayed(request_sets(), "on-demand", 0.5);
  std::vector<int> by_step(10, 0);
  std::set<int> resident, after_5;
  for (const DemandRecord& d : e.demands) by_step[d.step] += d.state == DemandState::miss;
  EXPECT_EQ(by_step, lru["by_step"].get<std::vector<int>>());
  // What was loaded or kept by the end of the fifth and the last request.
  for (std::uint32_t step = 0; step < 10; ++step) {
    for (const ResidencyRecord& r : e.residency) {
      if (r.step == step && r.change == ResidencyChange::evicted) resident.erase(r.expert);
    }
    for (const DemandRecord& d : e.demands) {
      if (d.step == step) resident.insert(d.expert);
    }
    if (step == 4) after_5 = resident;
  }
  EXPECT_EQ(after_5, lru["after_step_5"].get<std::set<int>>());
  EXPECT_EQ(resident, lru["after_step_10"].get<std::set<int>>());
}

// --- what makes each system that system

TEST(Fiddler, NeverChangesWhatIsResident) {
  const RecordedEvents e = run("fiddler", 0.25);
  EXPECT_EQ(e.count(Outcome::fetched), 0);
  EXPECT_GT(e.count(Outcome::gpu), 0);
  for (const ResidencyRecord& r : e.residency) EXPECT_NE(r.change, ResidencyChange::evicted);
}

TEST(Fiddler, OfTheCodesConstantsComputesUpToNineTokensOnTheCpu) {
  const RecordedEvents e = run("fiddler:placer.variant=code", 0.125);
  int on_cpu = 0, streamed = 0;
  for (const DemandRecord& d : e.demands) {
    if (d.state != DemandState::miss) continue;
    EXPECT_EQ(d.outcome, d.picks <= 9 ? Outcome::cpu : Outcome::streamed) << d.picks;
    ++(d.picks <= 9 ? on_cpu : streamed);
  }
  EXPECT_GT(on_cpu, 0);
}

TEST(FreetokenSplit, FetchesTheFractionOfALayersMissesAndAtLeastOne) {
  const RecordedEvents e = run("freetoken-split:placer.fraction=0.5", 0.125);
  std::map<std::pair<std::uint32_t, std::uint16_t>, std::pair<int, int>> layers;  // fetched, all misses
  for (const DemandRecord& d : e.demands) {
    const bool prefill = std::ranges::any_of(
        e.steps, [&](const StepRecord& s) { return s.step == d.step && s.phase == Phase::prefill; });
    if (prefill) {
      EXPECT_NE(d.outcome, Outcome::cpu);
      continue;
    }
    if (d.state != DemandState::miss) continue;
    auto& [fetched, all] = layers[{d.step, d.layer}];
    fetched += d.outcome != Outcome::cpu;
    ++all;
  }
  ASSERT_GT(layers.size(), 20U);
  for (const auto& [where, counts] : layers) EXPECT_EQ(counts.first, std::max(1, counts.second / 2));
}

TEST(LlamaCppStatic, KeepsTheLastLayersResidentAndComputesTheOthersOnTheCpuWhileDecoding) {
  const RecordedEvents e = run("llama-cpp-static", 0.5);
  const int layers = e.info.layers, resident_from = layers - layers / 2;
  std::map<std::uint32_t, const StepRecord*> steps;
  for (const StepRecord& s : e.steps) steps[s.step] = &s;
  for (const DemandRecord& d : e.demands) {
    const bool many = steps.at(d.step)->tokens >= 32;
    EXPECT_EQ(d.outcome, d.layer >= resident_from ? Outcome::gpu : many ? Outcome::streamed : Outcome::cpu);
  }
  EXPECT_GT(run("llama-cpp-static:placer.tokens=8", 0.5).count(Outcome::streamed), 0);
}

TEST(MixtralOffloading, EarlyCopiesDisplaceNothing) {
  const RecordedEvents e = run("mixtral-offloading", 0.25);
  std::int64_t prefetched_hits = 0;
  for (const DemandRecord& d : e.demands) prefetched_hits += d.prefetched;
  EXPECT_GT(prefetched_hits, 0);
  EXPECT_GT(e.count(DemandState::hit) + e.count(DemandState::late),
            run("mixtral-offloading:prefetcher=none", 0.25).count(DemandState::hit));
}

TEST(Hybrimoe, RunsResidentExpertsOnTheCpuWhereThatIsFasterUnlessToldNotTo) {
  MachineProfile slow_gpu = load_profile("rtx4090-pcie4");
  slow_gpu.gpus[0].memory_bytes_per_s = slow_gpu.host.memory_bytes_per_s;
  const auto residents_on_cpu = [&](const std::string& policy) {
    EmulatedRun r(policy, 0.5, slow_gpu, "mixtral-8x7b-q4");
    r.generate(kTale, 24);
    return std::ranges::count_if(r.events.demands, [](const DemandRecord& d) {
      return d.state == DemandState::hit && d.outcome == Outcome::cpu;
    });
  };
  EXPECT_GT(residents_on_cpu("hybrimoe"), 0);
  EXPECT_EQ(residents_on_cpu("hybrimoe:placer.residents=false"), 0);
}

TEST(MoeInfinity, WithoutAPriorSaysSoAndPredictsFromTheFirstPromptsOwnMatrix) {
  const RecordedEvents e = run("moe-infinity", 0.25);
  ASSERT_EQ(e.prompts.size(), 2U);
  std::int64_t first = 0, second = 0;
  for (const DemandRecord& d : e.demands) (d.step < e.prompts[1].first_step ? first : second) += d.prefetched;
  EXPECT_GT(first, 0);
  EXPECT_GT(second, 0);
  EXPECT_TRUE(std::ranges::any_of(e.health, [](const HealthNote& n) { return n.code == "moe-infinity.no_prior"; }));
}

TEST(Adapmoe, WithoutAPriorGivesEveryLayerTheSameSlotsAndSaysSo) {
  const RecordedEvents e = run("adapmoe:prefetcher=none", 0.25);
  EXPECT_TRUE(std::ranges::any_of(e.health, [](const HealthNote& n) { return n.code == "adapmoe.no_prior"; }));
  std::map<std::uint16_t, int> placed;
  for (const ResidencyRecord& r : e.residency)
    placed[r.layer] += r.change == ResidencyChange::loaded && r.reason == CopyReason::placement;
  EXPECT_EQ(placed.size(), static_cast<std::size_t>(e.info.layers));
  for (const auto& [layer, n] : placed) EXPECT_EQ(n, static_cast<int>(e.info.slots) / e.info.layers) << layer;
}

TEST(ReadMe, TurnsNearlyEveryCopyIntoOneThatWasMadeAhead) {
  const RecordedRun recorded = run("on-demand", 0.25).recorded();
  const RecordedEvents known = replayed(recorded, "read-me", 0.25), belady = replayed(recorded, "belady", 0.25);
  EXPECT_LT(known.count(DemandState::miss), belady.count(DemandState::miss) / 2);
  EXPECT_GT(known.decode_tokens_per_s(), belady.decode_tokens_per_s());
}

}  // namespace
}  // namespace expertscope
