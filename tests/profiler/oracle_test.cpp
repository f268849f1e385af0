#include "profiler/oracle.h"

#include <gtest/gtest.h>

namespace expertscope {
namespace {

// The reference's request sets; misses of MIN with bypass at 2, 3 and 4 slots are 10, 9 and 8 of 20.
const std::vector<std::vector<std::uint32_t>> kRequests = {{0, 1}, {0, 2}, {3, 4}, {0, 1}, {0, 5},
                                                           {1, 2}, {0, 3}, {0, 1}, {4, 5}, {0, 1}};

TEST(Oracle, MissesOfTheReferenceRequestSets) {
  EXPECT_EQ(20 - oracle_hits(kRequests, 2, {}), 10);
  EXPECT_EQ(20 - oracle_hits(kRequests, 3, {}), 9);
  EXPECT_EQ(20 - oracle_hits(kRequests, 4, {}), 8);
  EXPECT_EQ(20 - oracle_hits(kRequests, 6, {}), 6);  // compulsory
}

TEST(Oracle, StartsFromWhatTheCacheHeld) {
  EXPECT_EQ(oracle_hits(kRequests, 6, {0, 1, 2, 3, 4, 5}), 20);
  EXPECT_EQ(oracle_hits(kRequests, 0, {}), 0);
}

// Layers of two experts each; every decode step asks for one of a layer, in turn.
Trace trace_of(std::uint32_t steps, std::uint32_t change_at) {
  Batch batch;
  batch.start.emplace();
  for (const std::uint32_t first : {0U, change_at}) {
    EpochRecord e;
    e.epoch = static_cast<std::uint32_t>(batch.epochs.size());
    e.step = first;
    e.slots = e.epoch == 0 ? 1 : 2;
    batch.epochs.push_back(e);
  }
  for (std::uint32_t s = 0; s < steps; ++s) {
    StepRecord step;
    step.step = s;
    step.start_ns = s * 10;
    step.end_ns = s * 10 + 10;
    step.phase = Phase::decode;
    step.epoch = s < change_at ? 0 : 1;
    DemandRecord demand;
    demand.step = s;
    demand.expert = static_cast<std::uint16_t>(s % 2);
    batch.demands.push_back(demand);
    batch.steps.push_back(step);
  }
  Trace trace;
  trace.append(batch);
  return trace;
}

TEST(Oracle, AWindowEndsWithItsEpochAndTheLastOneStaysOpen) {
  OracleWindows oracle;
  oracle.update(trace_of(100, 40));
  ASSERT_EQ(oracle.windows().size(), 3U);  // 32 + 8 + 32; 28 are not finished
  EXPECT_EQ(oracle.windows()[0].demands, 32);
  EXPECT_EQ(oracle.windows()[1].last_step, 39U);
  EXPECT_EQ(oracle.windows()[2].first_step, 40U);
  // One slot for two experts in turn: the one that is kept hits every second time, but for its first.
  EXPECT_EQ(oracle.windows()[0].hits, 15);
  EXPECT_EQ(oracle.windows()[2].hits, 30);  // two slots: all but the first of each
}

}  // namespace
}  // namespace expertscope
