#include "profiler/lane_index.h"

#include <algorithm>

namespace expertscope {
namespace {

constexpr auto kByStart = [](const LaneItem& a, const LaneItem& b) { return a.start_ns < b.start_ns; };

// begin + (end - begin) * k / n, without overflow for any n below 2^31.
TimeNs edge_time(TimeNs begin, TimeNs end, std::size_t k, std::size_t n) {
  const auto span = end - begin, count = static_cast<TimeNs>(n), i = static_cast<TimeNs>(k);
  return begin + span / count * i + span % count * i / count;
}

}  // namespace

void LaneIndex::append(std::span<const LaneItem> added) {
  if (added.empty()) return;
  const std::size_t old_size = items_.size();
  const auto middle = static_cast<std::ptrdiff_t>(old_size);
  items_.insert(items_.end(), added.begin(), added.end());
  const auto begin_added = items_.begin() + middle;
  if (!std::is_sorted(begin_added, items_.end(), kByStart)) std::stable_sort(begin_added, items_.end(), kByStart);
  std::size_t first_changed = old_size;
  if (old_size > 0 && kByStart(*begin_added, items_[old_size - 1])) {
    const auto place = std::upper_bound(items_.begin(), begin_added, *begin_added, kByStart);
    first_changed = static_cast<std::size_t>(place - items_.begin());
    std::inplace_merge(place, begin_added, items_.end(), kByStart);
  }
  index_from(first_changed);
}

void LaneIndex::index_from(std::size_t first_item) {
  if (block_busy_.empty()) block_busy_.emplace_back();
  const std::size_t first_block = std::min(first_item / kBlock, block_start_.size());
  block_start_.resize(first_block);
  block_busy_.resize(first_block + 1);
  for (std::size_t begin = first_block * kBlock; begin + kBlock <= items_.size(); begin += kBlock) {
    Sums sums = block_busy_.back();
    for (std::size_t i = begin; i < begin + kBlock; ++i) {
      sums[static_cast<std::size_t>(colour(items_[i]))] += items_[i].end_ns - items_[i].start_ns;
    }
    block_start_.push_back(items_[begin].start_ns);
    block_busy_.push_back(sums);
  }
}

std::size_t LaneIndex::first_ending_after(TimeNs t) const {
  const auto found =
      std::partition_point(items_.begin(), items_.end(), [t](const LaneItem& i) { return i.end_ns <= t; });
  return static_cast<std::size_t>(found - items_.begin());
}

std::size_t LaneIndex::first_starting_at(TimeNs t) const {
  const auto block = static_cast<std::size_t>(
      std::partition_point(block_start_.begin(), block_start_.end(), [t](TimeNs s) { return s < t; }) -
      block_start_.begin());
  // The answer is inside the last block that starts before t, or in the incomplete one after the last.
  const std::size_t begin = block == 0 ? 0 : (block - 1) * kBlock;
  const std::size_t end = block == block_start_.size() ? items_.size() : block * kBlock;
  const auto first = items_.begin() + static_cast<std::ptrdiff_t>(begin);
  const auto last = items_.begin() + static_cast<std::ptrdiff_t>(end);
  const auto found = std::partition_point(first, last, [t](const LaneItem& i) { return i.start_ns < t; });
  return static_cast<std::size_t>(found - items_.begin());
}

LaneIndex::Edge LaneIndex::edge_at(TimeNs t) const {
  Edge edge;
  edge.started = first_starting_at(t);
  if (edge.started == 0) return edge;
  const std::size_t block = std::min(edge.started / kBlock, block_start_.size());
  edge.busy = block_busy_[block];
  for (std::size_t i = block * kBlock; i < edge.started; ++i) {
    edge.busy[static_cast<std::size_t>(colour(items_[i]))] += items_[i].end_ns - items_[i].start_ns;
  }
  const LaneItem& last = items_[edge.started - 1];
  if (last.end_ns > t) {
    edge.reached_into = true;
    edge.busy[static_cast<std::size_t>(colour(last))] -= last.end_ns - t;
  }
  return edge;
}

void LaneIndex::summarise(TimeNs begin_ns, TimeNs end_ns, std::span<LaneSummary> buckets) const {
  if (buckets.empty()) return;
  Edge left = edge_at(begin_ns);
  for (std::size_t k = 0; k < buckets.size(); ++k) {
    const Edge right = edge_at(edge_time(begin_ns, end_ns, k + 1, buckets.size()));
    LaneSummary summary;
    summary.count = static_cast<std::uint32_t>(right.started - left.started + (left.reached_into ? 1 : 0));
    TimeNs most = 0;
    std::size_t dominant = 0;
    for (std::size_t c = 0; c < left.busy.size(); ++c) {
      const TimeNs busy = right.busy[c] - left.busy[c];
      summary.busy_ns += busy;
      if (busy > most) {
        most = busy;
        dominant = c;
      }
    }
    if (most == 0 && summary.count > 0) {  // only items of no length
      dominant = static_cast<std::size_t>(colour(items_[std::min(left.started, items_.size() - 1)]));
    }
    summary.is_copy = dominant >= static_cast<std::size_t>(kWorkKinds);
    summary.kind =
        static_cast<std::uint8_t>(summary.is_copy ? dominant - static_cast<std::size_t>(kWorkKinds) : dominant);
    buckets[k] = summary;
    left = right;
  }
}

}  // namespace expertscope
