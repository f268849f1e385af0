#include <algorithm>

#include "engine/assert.h"
#include "engine/machines/cuda/slots.h"

namespace expertscope::cuda {
namespace {

// Large enough to make thousands of small experts cheap to allocate, small enough to give memory back when the cache
// is made smaller.
constexpr std::int64_t kBlockBytes = 64 << 20;

}  // namespace

Slots::Slots(int layers, int experts, std::int64_t slot_bytes)
    : experts_(experts),
      slot_bytes_((slot_bytes + 255) / 256 * 256),
      table_(std::int64_t{layers} * experts),
      published_(static_cast<std::size_t>(layers), 0) {}

std::uint32_t Slots::free_block() {
  for (std::uint32_t i = 0; i < blocks_.size(); ++i) {
    if (blocks_[i].bytes.size() == 0) return i;
  }
  blocks_.emplace_back();
  return static_cast<std::uint32_t>(blocks_.size() - 1);
}

std::vector<SlotId> Slots::add(int count, bool staging) {
  std::vector<SlotId> added;
  const int of_block = static_cast<int>(std::max<std::int64_t>(1, kBlockBytes / slot_bytes_));
  std::size_t next = 0;
  while (static_cast<int>(added.size()) < count) {
    const int now = std::min(of_block, count - static_cast<int>(added.size()));
    const std::uint32_t b = free_block();
    blocks_[b].bytes = DeviceArray<std::byte>(now * slot_bytes_);
    blocks_[b].used = now;
    allocated_bytes_ += now * slot_bytes_;
    for (int i = 0; i < now; ++i) {
      while (next < slots_.size() && slots_[next].address != nullptr) ++next;
      if (next == slots_.size()) slots_.emplace_back();
      ES_ASSERT(next < kNone16, "slots have 16-bit numbers");
      slots_[next] = {blocks_[b].bytes.data() + i * slot_bytes_, b, staging};
      added.push_back(static_cast<SlotId>(next));
    }
  }
  (staging ? staging_slots_ : expert_slots_) += count;
  return added;
}

void Slots::remove(SlotId slot) {
  Slot& s = slots_[slot];
  ES_ASSERT(s.address != nullptr, "removes a slot that does not exist");
  --(s.staging ? staging_slots_ : expert_slots_);
  Block& block = blocks_[s.block];
  if (--block.used == 0) {
    allocated_bytes_ -= block.bytes.size();
    block.bytes = DeviceArray<std::byte>();
  }
  s = {};
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
