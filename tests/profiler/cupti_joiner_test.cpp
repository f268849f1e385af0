#include "profiler/cupti_joiner.h"

#include <gtest/gtest.h>

namespace expertscope {
namespace {

constexpr LaunchTag kAttention{.step = 12, .layer = 3, .kind = WorkKind::attention};

GpuKernelRecord kernel(std::uint32_t correlation, std::uint64_t graph_node = 0) {
  GpuKernelRecord k;
  k.start_ns = 1000;
  k.end_ns = 2000;
  k.correlation = correlation;
  k.graph_node = graph_node;
  return k;
}

GpuRecords hand_over(CuptiJoiner& joiner, bool everything = false) {
  GpuRecords records;
  joiner.hand_over(records, everything);
  return records;
}

TEST(CuptiJoiner, GivesAKernelTheTagOfItsCall) {
  CuptiJoiner joiner;
  joiner.add_call(7, pack(kAttention));
  joiner.add(kernel(7));
  const GpuRecords records = hand_over(joiner);
  ASSERT_EQ(records.kernels.size(), 1u);
  EXPECT_EQ(unpack_tag(records.kernels[0].tag), kAttention);
}

TEST(CuptiJoiner, WaitsForACallThatIsToldLater) {
  CuptiJoiner joiner;
  joiner.add(kernel(7));
  EXPECT_TRUE(hand_over(joiner).kernels.empty());
  joiner.add_call(7, pack(kAttention));
  ASSERT_EQ(hand_over(joiner).kernels.size(), 1u);
  EXPECT_TRUE(hand_over(joiner, true).kernels.empty());
}

TEST(CuptiJoiner, GivesUpOnWhatWasNeverTagged) {
  CuptiJoiner joiner;
  joiner.add(kernel(7));
  int rounds = 1;
  GpuRecords records;
  while ((records = hand_over(joiner)).kernels.empty()) ASSERT_LT(++rounds, 100);
  EXPECT_EQ(rounds, CuptiJoiner::kPatience);
  EXPECT_EQ(records.kernels[0].tag, 0u);
}

TEST(CuptiJoiner, HandsOverEverythingAtTheEnd) {
  CuptiJoiner joiner;
  joiner.add(kernel(7));
  joiner.add(GpuMemsetRecord{});
  const GpuRecords records = hand_over(joiner, true);
  EXPECT_EQ(records.kernels.size(), 1u);
  EXPECT_EQ(records.memsets.size(), 1u);
}

TEST(CuptiJoiner, FindsACopyByTheRuntimesNumberOfTheCall) {
  CuptiJoiner joiner;
  const LaunchTag tag{.step = 1, .layer = 2, .expert = 3, .is_copy = true, .reason = CopyReason::prefetch};
  joiner.add_call(8, pack(tag));
  GpuCopyRecord copy;
  copy.correlation = 7;
  joiner.add(copy, 8);
  ASSERT_EQ(hand_over(joiner).copies.size(), 1u);
}

TEST(CuptiJoiner, DoesNotTakeAnOldCallForANewOne) {
  CuptiJoiner joiner;
  joiner.add_call(7, pack(kAttention));
  joiner.add(kernel(7 + (1u << 20)));
  EXPECT_TRUE(hand_over(joiner).kernels.empty());
}

TEST(CuptiJoiner, TellsTheKernelsOfAGraphApartAndGivesThemTheStepOfTheLaunch) {
  CuptiJoiner joiner;
  const LaunchTag router{.step = 0, .layer = 4, .kind = WorkKind::router};
  const LaunchTag expert{.step = 0, .layer = 4, .expert = 5, .kind = WorkKind::expert};
  joiner.add_node(100, pack(router));
  joiner.add_node(101, pack(expert));
  joiner.add_clone(200, 100);
  joiner.add_clone(201, 101);
  joiner.add_clone(202, 102);  // of a node that nobody tagged
  joiner.add_call(9, pack({.step = 33, .kind = WorkKind::embed}));
  for (const std::uint64_t node : {200, 201, 202}) joiner.add(kernel(9, node));
  const GpuRecords records = hand_over(joiner);
  ASSERT_EQ(records.kernels.size(), 3u);
  EXPECT_EQ(unpack_tag(records.kernels[0].tag), (LaunchTag{.step = 33, .layer = 4, .kind = WorkKind::router}));
  EXPECT_EQ(unpack_tag(records.kernels[1].tag),
            (LaunchTag{.step = 33, .layer = 4, .expert = 5, .kind = WorkKind::expert}));
  EXPECT_EQ(unpack_tag(records.kernels[2].tag), (LaunchTag{.step = 33, .kind = WorkKind::embed}));
}

}  // namespace
}  // namespace expertscope
