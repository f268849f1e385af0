// Misses that are shared by the link and the CPU, on machines where one, the other or neither is the faster way.
#include <map>

#include <gtest/gtest.h>

#include "engine/error.h"
#include "tests/engine/emulated_run.h"

namespace expertscope {
namespace {

// The CPU reads an expert exactly as fast as the link carries it, and host memory serves both at once.
MachineProfile equally_fast() {
  MachineProfile p = load_profile("rtx4090-pcie4");
  p.host.memory_bytes_per_s = p.link.h2d_bytes_per_s;
  p.host.shared_memory_bytes_per_s = 2 * p.link.h2d_bytes_per_s;
  p.host.task_s = p.link.latency_s;
  return p;
}

RecordedEvents run_on(const MachineProfile& profile, const std::string& policy, double ratio) {
  EmulatedRun run(policy, ratio, profile, "mixtral-8x7b-q4");
  run.generate(kTale, 48);
  return run.events;
}

struct Shares {
  int cpu = 0, link = 0;
};
std::map<std::pair<std::uint32_t, std::uint16_t>, Shares> misses_by_layer(const RecordedEvents& e, Phase phase) {
  std::map<std::pair<std::uint32_t, std::uint16_t>, Shares> out;
  for (const DemandRecord& d : e.demands) {
    if (d.state != DemandState::miss || (d.step == 0) != (phase == Phase::prefill)) continue;
    Shares& s = out[{d.step, d.layer}];
    ++(d.outcome == Outcome::cpu ? s.cpu : s.link);
  }
  return out;
}

TEST(Split, BeatsFetchingAllAndComputingAllWhereCpuAndLinkAreEquallyFast) {
  for (double ratio : {0.0, 0.125, 0.25}) {
    SCOPED_TRACE(ratio);
    const double split = run_on(equally_fast(), "split", ratio).decode_tokens_per_s();
    EXPECT_GT(split, 1.05 * run_on(equally_fast(), "on-demand", ratio).decode_tokens_per_s());
    EXPECT_GT(split, 1.05 * run_on(equally_fast(), "cpu-only", ratio).decode_tokens_per_s());
  }
}

TEST(Split, OfTwoMissesOfALayerGivesEachWayOne) {
  const RecordedEvents e = run_on(equally_fast(), "split", 0.125);
  int layers_with_two = 0;
  for (const auto& [where, shares] : misses_by_layer(e, Phase::decode)) {
    if (shares.cpu + shares.link != 2) continue;
    ++layers_with_two;
    EXPECT_EQ(shares.cpu, 1) << "step " << where.first << " layer " << where.second;
  }
  EXPECT_GT(layers_with_two, 50);
}

TEST(Split, FetchesEverythingWhereTheCpuIsMuchSlower) {
  MachineProfile p = equally_fast();
  p.host.flops_per_s /= 1000;
  p.host.memory_bytes_per_s /= 100;
  const RecordedEvents split = run_on(p, "split", 0.25), on_demand = run_on(p, "on-demand", 0.25);
  EXPECT_EQ(split.count(Outcome::cpu), 0);
  EXPECT_EQ(split.steps.back().end_ns, on_demand.steps.back().end_ns);
}

TEST(Split, ComputesEverythingWhereTheLinkIsMuchSlower) {
  MachineProfile p = equally_fast();
  p.link.h2d_bytes_per_s /= 100;
  p.host.flops_per_s *= 1000;  // a prompt's many rows are no reason to fetch either
  const RecordedEvents split = run_on(p, "split", 0.25);
  EXPECT_EQ(split.expert_copies(), 0);
  EXPECT_EQ(split.count(Outcome::cpu), split.count(DemandState::miss));
}

TEST(Split, SendsTheManyRowsOfAPromptOverTheLink) {
  MachineProfile p = equally_fast();
  p.host.flops_per_s = 1e11;  // each further row takes the CPU about as long as a copy
  const RecordedEvents e = run_on(p, "split", 0.25);
  std::int64_t rows_on_cpu = 0, rows_on_gpu = 0, on_cpu = 0, on_gpu = 0;
  for (const DemandRecord& d : e.demands) {
    if (d.step != 0 || d.state != DemandState::miss) continue;
    (d.outcome == Outcome::cpu ? rows_on_cpu : rows_on_gpu) += d.picks;
    ++(d.outcome == Outcome::cpu ? on_cpu : on_gpu);
  }
  ASSERT_GT(on_cpu, 0);
  ASSERT_GT(on_gpu, 0);
  EXPECT_LT(static_cast<double>(rows_on_cpu) / static_cast<double>(on_cpu),
            static_cast<double>(rows_on_gpu) / static_cast<double>(on_gpu));
}

TEST(Split, FetchesALayersFirstMissThoughTheCpuIsSomewhatFasterSoThatTheCacheFollowsTheText) {
  MachineProfile p = equally_fast();
  p.host.memory_bytes_per_s *= 1.2;
  const RecordedEvents e = run_on(p, "split", 0.5);
  for (const auto& [where, shares] : misses_by_layer(e, Phase::decode))
    EXPECT_EQ(shares.link, 1) << "step " << where.first << " layer " << where.second;
  EXPECT_GT(e.decode_tokens_per_s(), 1.1 * run_on(p, "split:placer.worth=0", 0.5).decode_tokens_per_s());
}

TEST(Split, FetchesNothingForACacheThatCanKeepNothing) {
  MachineProfile p = equally_fast();
  p.host.memory_bytes_per_s *= 1.2;
  int single_on_link = 0;
  for (const auto& [where, shares] : misses_by_layer(run_on(p, "split", 0), Phase::decode))
    single_on_link += shares.cpu == 0;
  EXPECT_EQ(single_on_link, 0);
}

TEST(Split, BiasMovesMissesFromTheCpuToTheLink) {
  const auto on_cpu = [](const std::string& policy) {
    return run_on(equally_fast(), policy, 0.125).count(Outcome::cpu);
  };
  EXPECT_GT(on_cpu("split:placer.bias=0.1"), on_cpu("split"));
  EXPECT_LT(on_cpu("split:placer.bias=10"), on_cpu("split"));
}

}  // namespace
}  // namespace expertscope
