// Host memory that holds a part of the experts: what is read from storage, and what that costs.
#include "engine/machines/host_tier.h"

#include <gtest/gtest.h>

#include "engine/error.h"
#include "tests/engine/emulated_run.h"

namespace expertscope {
namespace {

constexpr ExpertId expert(int layer, int number) {
  return {static_cast<std::uint16_t>(layer), static_cast<std::uint16_t>(number)};
}

TEST(HostTier, BeginsWithTheFirstExpertsOfEveryLayerAndForgetsTheOneUsedLongestAgo) {
  HostTier tier(2, 3, 10, 35);  // room for three
  const auto use = [&](ExpertId id) { return tier.use(id, Precision::native); };
  EXPECT_TRUE(use(expert(0, 0)));
  EXPECT_TRUE(use(expert(0, 1)));
  EXPECT_FALSE(use(expert(1, 2)));  // in place of (1, 0), which nobody used
  EXPECT_TRUE(use(expert(0, 0)));
  EXPECT_FALSE(use(expert(1, 0)));  // in place of (0, 1)
  EXPECT_FALSE(use(expert(0, 1)));
}

TEST(HostTier, AnExpertInAnotherPrecisionIsReadAnew) {
  HostTier tier(2, 3, 10, 35);
  EXPECT_FALSE(tier.use(expert(0, 0), Precision::int4));  // in place of (0, 0) itself
  EXPECT_TRUE(tier.use(expert(0, 0), Precision::int4));
  EXPECT_FALSE(tier.use(expert(0, 0), Precision::native));
  EXPECT_TRUE(tier.use(expert(0, 0), Precision::int4));
}

RecordedEvents run_with(std::optional<std::int64_t> host_bytes, const std::string& profile = "rtx4090-pcie4") {
  EmulatedRun run("on-demand", 0.125, load_profile(profile), "mixtral-8x7b-q4", 1, host_bytes);
  run.generate(kTale, 24);
  return run.events;
}

std::int64_t read_from_storage(const RecordedEvents& e) {
  std::int64_t bytes = 0;
  for (const CopyRecord& c : e.copies) bytes += c.lane == Lane::storage ? c.bytes : 0;
  return bytes;
}

TEST(HostTier, SmallerHostMemoryReadsMoreFromStorageAndIsSlowerAndChangesNoToken) {
  const RecordedEvents whole = run_with({}), half = run_with(10'000'000'000), little = run_with(4'000'000'000);
  EXPECT_EQ(read_from_storage(whole), 0);
  EXPECT_GT(read_from_storage(half), 0);
  EXPECT_GT(read_from_storage(little), read_from_storage(half));
  EXPECT_LT(half.decode_tokens_per_s(), whole.decode_tokens_per_s());
  EXPECT_LT(little.decode_tokens_per_s(), half.decode_tokens_per_s());
  ASSERT_EQ(little.tokens.size(), whole.tokens.size());
  for (std::size_t i = 0; i < whole.tokens.size(); ++i) EXPECT_EQ(little.tokens[i].id, whole.tokens[i].id);
}

TEST(HostTier, AReplayReadsWhatTheRunRead) {
  const RecordedEvents run = run_with(4'000'000'000);
  RecordedEvents replayed;
  replay(run.recorded(), {}, replayed);
  EXPECT_EQ(read_from_storage(replayed), read_from_storage(run));
  EXPECT_EQ(replayed.steps.back().end_ns, run.steps.back().end_ns);
}

TEST(HostTier, WithUnifiedMemoryEveryCopyIsARead) {
  const RecordedEvents run = run_with(8'000'000'000, "jetson-orin");
  std::int64_t copies = 0, reads = 0;
  for (const CopyRecord& c : run.copies) {
    copies += c.lane == Lane::h2d && is_expert_copy(c.reason) && c.last;
    reads += c.lane == Lane::storage && c.last;
  }
  EXPECT_EQ(reads, copies);
  EXPECT_GT(reads, 0);
}

TEST(HostTier, MustHoldWhatATokenUsesInALayer) {
  try {
    run_with(1000);
    FAIL();
  } catch (const InputError& e) {
    EXPECT_NE(std::string(e.what()).find("--host-bytes 1000"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace expertscope
