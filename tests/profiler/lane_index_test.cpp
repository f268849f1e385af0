#include "profiler/lane_index.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <random>

#include <gtest/gtest.h>

namespace expertscope {
namespace {

std::vector<LaneItem> random_items(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<LaneItem> items;
  TimeNs now = 0;
  for (std::size_t i = 0; i < count; ++i) {
    now += random() % 3 == 0 ? static_cast<TimeNs>(random() % 50) : 0;
    LaneItem item;
    item.start_ns = now;
    item.end_ns = now += static_cast<TimeNs>(random() % 40);
    item.record = static_cast<std::uint32_t>(i);
    item.is_copy = random() % 4 == 0;
    item.kind = static_cast<std::uint8_t>(random() % static_cast<unsigned>(item.is_copy ? kCopyReasons : kWorkKinds));
    items.push_back(item);
  }
  return items;
}

// The obvious way, item by item and bucket by bucket.
std::vector<LaneSummary> naive(const std::vector<LaneItem>& items, TimeNs begin, TimeNs end, std::size_t n) {
  std::vector<LaneSummary> result(n);
  for (std::size_t b = 0; b < n; ++b) {
    const TimeNs left = begin + (end - begin) * static_cast<TimeNs>(b) / static_cast<TimeNs>(n);
    const TimeNs right = begin + (end - begin) * static_cast<TimeNs>(b + 1) / static_cast<TimeNs>(n);
    std::array<TimeNs, kWorkKinds + kCopyReasons> busy{};
    for (const LaneItem& i : items) {
      const bool starts_here = i.start_ns >= left && i.start_ns < right;
      const bool reaches_in = i.start_ns < left && i.end_ns > left;
      if (!starts_here && !reaches_in) continue;
      ++result[b].count;
      busy[static_cast<std::size_t>(i.is_copy ? kWorkKinds + i.kind : i.kind)] +=
          std::min(i.end_ns, right) - std::max(i.start_ns, left);
    }
    const auto most = std::max_element(busy.begin(), busy.end());
    for (const TimeNs ns : busy) result[b].busy_ns += ns;
    if (*most == 0) continue;
    const auto colour = static_cast<int>(most - busy.begin());
    result[b].is_copy = colour >= kWorkKinds;
    result[b].kind = static_cast<std::uint8_t>(result[b].is_copy ? colour - kWorkKinds : colour);
  }
  return result;
}

void expect_like_naive(const LaneIndex& index, const std::vector<LaneItem>& items, TimeNs begin, TimeNs end,
                       std::size_t n) {
  std::vector<LaneSummary> found(n);
  index.summarise(begin, end, found);
  const auto wanted = naive(items, begin, end, n);
  for (std::size_t b = 0; b < n; ++b) {
    ASSERT_EQ(found[b].count, wanted[b].count) << "bucket " << b << " of " << n;
    ASSERT_EQ(found[b].busy_ns, wanted[b].busy_ns) << "bucket " << b << " of " << n;
    if (wanted[b].busy_ns == 0) continue;
    ASSERT_EQ(found[b].kind, wanted[b].kind) << "bucket " << b << " of " << n;
    ASSERT_EQ(found[b].is_copy, wanted[b].is_copy) << "bucket " << b << " of " << n;
  }
}

TEST(LaneIndex, SummarisesLikeAScanOfAllItemsAtEveryZoom) {
  for (const std::size_t count : {0u, 1u, 31u, 32u, 33u, 1000u, 5000u}) {
    const auto items = random_items(count, static_cast<unsigned>(count));
    LaneIndex index;
    for (const LaneItem& item : items) index.append(item);
    const TimeNs end = items.empty() ? 100 : items.back().end_ns;
    for (const std::size_t n : {1u, 7u, 100u}) {
      expect_like_naive(index, items, 0, end, n);
      expect_like_naive(index, items, -50, end + 50, n);
      expect_like_naive(index, items, end / 3, end / 3 + 211, n);
    }
  }
}

TEST(LaneIndex, PutsLateItemsInTheirPlace) {
  const auto items = random_items(3000, 5);
  std::vector<LaneItem> distinct;
  for (const LaneItem& item : items) {
    if (distinct.empty() || item.start_ns > distinct.back().start_ns) distinct.push_back(item);
  }
  LaneIndex index;
  std::vector<LaneItem> odd, even;
  for (std::size_t i = 0; i < distinct.size(); ++i) (i % 2 ? odd : even).push_back(distinct[i]);
  index.append(even);
  index.append(odd);
  ASSERT_EQ(index.items().size(), distinct.size());
  for (std::size_t i = 0; i < distinct.size(); ++i) ASSERT_EQ(index.items()[i].record, distinct[i].record);
  expect_like_naive(index, distinct, 0, distinct.back().end_ns, 333);
}

TEST(LaneIndex, FindsTheFirstItemAfterAMoment) {
  LaneIndex index;
  index.append(LaneItem{10, 20, 0, 0, false});
  index.append(LaneItem{20, 30, 1, 0, false});
  EXPECT_EQ(index.first_ending_after(5), 0u);
  EXPECT_EQ(index.first_ending_after(19), 0u);
  EXPECT_EQ(index.first_ending_after(20), 1u);
  EXPECT_EQ(index.first_ending_after(30), 2u);
  EXPECT_EQ(index.first_starting_at(10), 0u);
  EXPECT_EQ(index.first_starting_at(11), 1u);
  EXPECT_EQ(index.first_starting_at(21), 2u);
}

TEST(LaneIndex, SummarisesTenMillionItemsInAFewMilliseconds) {
  LaneIndex index;
  for (TimeNs i = 0; i < 10'000'000; ++i) {
    index.append(LaneItem{i * 100, i * 100 + 30 + i % 60, 0, static_cast<std::uint8_t>(i % kWorkKinds), false});
  }
  std::vector<LaneSummary> buckets(2000);
  double best_ms = 1e9;
  for (int round = 0; round < 5; ++round) {
    const auto start = std::chrono::steady_clock::now();
    index.summarise(0, 1'000'000'000, buckets);
    best_ms =
        std::min(best_ms, std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
  }
  RecordProperty("summarise_ms", std::to_string(best_ms));
  std::printf("2,000 buckets over 10 M items: %.2f ms\n", best_ms);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && defined(NDEBUG)
  EXPECT_LT(best_ms, 4);
#endif
}

}  // namespace
}  // namespace expertscope
