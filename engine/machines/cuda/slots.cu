#include <algorithm>

#include "engine/assert.h"
#include "engine/machines/cuda/slots.h"

namespace expertscope::cuda {
namespace {

// Large enough to make thousands of small experts cheap to allocate, small enough to give memory back when the cache
// is made smaller.
constexpr std::int64_t kBlockBytes = 64 << 20;
// So many copies can be under way before the first of their readers is done.
constexpr std::int64_t kFewestSpares = 2, kMostSpares = 16;

}  // namespace

Slots::Slots(int layers, int experts, const Bytes& slot_bytes)
    : experts_(experts), table_(std::int64_t{layers} * experts), published_(static_cast<std::size_t>(layers), 0) {
  for (std::size_t p = 0; p < pools_.size(); ++p) pools_[p].slot_bytes = (slot_bytes[p] + 255) / 256 * 256;
}

std::uint32_t Slots::free_block() {
  for (std::uint32_t i = 0; i < blocks_.size(); ++i) {
    if (blocks_[i].bytes.size() == 0) return i;
  }
  blocks_.emplace_back();
  return static_cast<std::uint32_t>(blocks_.size() - 1);
}

std::uint32_t Slots::add_block(int buffers, std::int64_t bytes) {
  const std::uint32_t b = free_block();
  blocks_[b].bytes = DeviceArray<std::byte>(buffers * bytes);
  blocks_[b].used = buffers;
  allocated_bytes_ += buffers * bytes;
  return b;
}

int Slots::wanted_spares(Precision p) const {
  return static_cast<int>(std::clamp(kBlockBytes / slot_bytes(p), kFewestSpares, kMostSpares));
}

std::vector<SlotId> Slots::add(int count, bool staging, Precision precision) {
  Pool& of = pool(precision);
  if (of.spares.empty()) {
    of.spares_block = add_block(wanted_spares(precision), of.slot_bytes);
    for (int i = 0; i < wanted_spares(precision); ++i)
      of.spares.push_back({blocks_[of.spares_block].bytes.data() + i * of.slot_bytes, of.spares_block, {}});
  }
  std::vector<SlotId> added;
  const int of_block = static_cast<int>(std::max<std::int64_t>(1, kBlockBytes / of.slot_bytes));
  std::size_t next = 0;
  while (static_cast<int>(added.size()) < count) {
    const int now = std::min(of_block, count - static_cast<int>(added.size()));
    const std::uint32_t b = add_block(now, of.slot_bytes);
    for (int i = 0; i < now; ++i) {
      while (next < slots_.size() && slots_[next].address != nullptr) ++next;
      if (next == slots_.size()) slots_.emplace_back();
      ES_ASSERT(next < kNone16, "slots have 16-bit numbers");
      slots_[next] = {blocks_[b].bytes.data() + i * of.slot_bytes, b, precision, staging};
      added.push_back(static_cast<SlotId>(next));
    }
  }
  (staging ? of.staging_slots : of.expert_slots) += count;
  return added;
}

void Slots::remove(SlotId slot) {
  Slot& s = slots_[slot];
  ES_ASSERT(s.address != nullptr, "removes a slot that does not exist");
  Pool& of = pool(s.precision);
  --(s.staging ? of.staging_slots : of.expert_slots);
  // Spares do not keep the blocks of removed slots.
  if (s.block == of.spares_block) {
    const auto other =
        std::ranges::find_if(of.spares, [&](const Spare& spare) { return spare.block != of.spares_block; });
    ES_ASSERT(other != of.spares.end(), "a slot has a spare buffer, so a spare has one of a slot");
    std::swap(s.address, other->address);
    std::swap(s.block, other->block);
  }
  Block& block = blocks_[s.block];
  if (--block.used == 0) {
    allocated_bytes_ -= block.bytes.size();
    block.bytes = DeviceArray<std::byte>();
  }
  s = {};
}

Slots::Reader Slots::exchange(SlotId slot, const Reader& of_old) {
  Slot& s = slots_[slot];
  Pool& of = pool(s.precision);
  const Spare next = of.spares.front();
  of.spares.pop_front();
  of.spares.push_back({s.address, s.block, of_old});
  s.address = next.address;
  s.block = next.block;
  return next.reader;
}

void Slots::publish(ExpertId id, SlotId slot) {
  ES_ASSERT(!is_published(id), "an expert is published once");
  table_[index(id)] = reinterpret_cast<std::uint64_t>(address(slot));
  ++published_[id.layer];
}

void Slots::unpublish(ExpertId id) {
  if (!is_published(id)) return;
  table_[index(id)] = 0;
  --published_[id.layer];
}

}  // namespace expertscope::cuda
