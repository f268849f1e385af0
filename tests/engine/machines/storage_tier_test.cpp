// Host memory as a cache over a file: who is there, who makes room, what waits for a read.
#include "engine/machines/storage_tier.h"

#include <map>
#include <thread>

#include <gtest/gtest.h>

#include "engine/error.h"

namespace expertscope {
namespace {

constexpr ExpertId expert(int layer, int number) {
  return {static_cast<std::uint16_t>(layer), static_cast<std::uint16_t>(number)};
}

// Three places of eight bytes; an expert's bytes are its precision and its numbers.
struct SmallTier {
  SmallTier()
      : tier(
            2, 4, memory, 8,
            [this](ExpertId id, Precision precision, std::byte* blob) {
              while (stopped) std::this_thread::yield();
              if (id.expert == 3) throw InputError("the file was shortened");
              blob[0] = static_cast<std::byte>(100 * static_cast<int>(precision) + 10 * id.layer + id.expert);
            },
            [this] { return ++time; }) {
    for (const StorageTier::Read& r : tier.begin_full())
      r.blob[0] = static_cast<std::byte>(10 * r.expert.layer + r.expert.expert);
  }
  int value_of(StorageTier::Place p) const { return static_cast<int>(tier.blob(p)[0]); }
  StorageTier::Place hold(ExpertId id, CopyReason reason = CopyReason::demand) {
    return tier.hold(id, Precision::native, reason);
  }
  StorageTier::Place use(ExpertId id, Precision precision = Precision::native) {
    const StorageTier::Place p = tier.hold(id, precision, CopyReason::demand);
    while (p != StorageTier::kNoPlace && !tier.there(p)) std::this_thread::yield();
    if (p != StorageTier::kNoPlace) tier.release(p);
    return p;
  }
  std::vector<std::byte> memory = std::vector<std::byte>(27);
  std::atomic<bool> stopped{false};
  std::atomic<TimeNs> time{0};
  StorageTier tier;
};

std::vector<StorageTier::Read> reads_of(StorageTier& tier) {
  std::vector<StorageTier::Read> reads;
  for (StorageTier::Read read; tier.next_read(read);) reads.push_back(read);
  return reads;
}

TEST(StorageTier, BeginsWithTheFirstExpertsOfEveryLayerAndGivesUpTheOneUsedLongestAgo) {
  SmallTier t;
  EXPECT_EQ(t.tier.places(), 3);
  EXPECT_EQ(t.value_of(t.use(expert(0, 0))), 0);
  EXPECT_EQ(t.value_of(t.use(expert(0, 1))), 1);
  EXPECT_EQ(t.value_of(t.use(expert(1, 2))), 12);  // in place of (1, 0), which nobody used
  EXPECT_EQ(t.value_of(t.use(expert(0, 0))), 0);
  EXPECT_EQ(t.value_of(t.use(expert(1, 0))), 10);  // in place of (0, 1)
  const std::vector<StorageTier::Read> reads = reads_of(t.tier);
  ASSERT_EQ(reads.size(), 2U);
  EXPECT_EQ(reads[0].expert, expert(1, 2));
  EXPECT_EQ(reads[1].expert, expert(1, 0));
  EXPECT_LT(reads[0].issued_ns, reads[0].start_ns);
  EXPECT_LT(reads[0].start_ns, reads[0].end_ns);
}

TEST(StorageTier, AnExpertInAnotherPrecisionHasAPlaceOfItsOwn) {
  SmallTier t;
  EXPECT_EQ(t.value_of(t.use(expert(1, 0), Precision::int8)), 110);  // in place of (0, 0)
  EXPECT_EQ(t.value_of(t.use(expert(1, 0))), 10);
  EXPECT_EQ(t.value_of(t.use(expert(1, 0), Precision::int8)), 110);
  const std::vector<StorageTier::Read> reads = reads_of(t.tier);
  ASSERT_EQ(reads.size(), 1U);
  EXPECT_EQ(reads[0].precision, Precision::int8);
}

TEST(StorageTier, WhatIsHeldStaysAndWhenAllIsHeldThereIsNoPlace) {
  SmallTier t;
  const StorageTier::Place first = t.hold(expert(0, 0));
  t.use(expert(1, 1)), t.use(expert(1, 2)), t.use(expert(0, 2));
  EXPECT_EQ(t.value_of(first), 0);
  t.hold(expert(1, 2)), t.hold(expert(0, 2));
  EXPECT_EQ(t.hold(expert(1, 1)), StorageTier::kNoPlace);
  t.tier.release(first);
  EXPECT_EQ(t.value_of(t.use(expert(1, 1))), 11);
}

TEST(StorageTier, DemandsAreReadBeforePrefetchesAndAPrefetchMayBecomeOne) {
  SmallTier t;
  t.stopped = true;
  t.hold(expert(0, 2), CopyReason::prefetch);  // begins, and stands
  while (t.time < 2) std::this_thread::yield();
  const StorageTier::Place prefetch = t.hold(expert(1, 2), CopyReason::prefetch);
  t.hold(expert(1, 1), CopyReason::promotion);
  t.tier.raise(prefetch);
  t.stopped = false;
  std::vector<ExpertId> order;
  while (order.size() < 3) {
    for (const StorageTier::Read& r : reads_of(t.tier)) order.push_back(r.expert);
  }
  EXPECT_EQ(order, (std::vector{expert(0, 2), expert(1, 2), expert(1, 1)}));
}

TEST(StorageTier, AReadThatFailsIsTheCallersError) {
  SmallTier t;
  t.hold(expert(0, 3));
  EXPECT_THROW(
      while (true) {
        StorageTier::Read read;
        t.tier.next_read(read);
      },
      InputError);
}

}  // namespace
}  // namespace expertscope
