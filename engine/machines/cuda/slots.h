// Expert slots in device memory, of a size for each precision, allocated a few dozen megabytes at a time, and the table
// in which kernels find them. A slot is a name of a buffer: where the old content is still read, it gets another buffer
// and is filled at once.
#pragma once

#include <array>
#include <deque>
#include <vector>

#include "engine/machine.h"
#include "engine/machines/cuda/device.h"

namespace expertscope::cuda {

class Slots {
 public:
  using Bytes = std::array<std::int64_t, 4>;  // by precision
  Slots(int layers, int experts, const Bytes& slot_bytes);

  std::vector<SlotId> add(int count, bool staging, Precision);
  void remove(SlotId);  // its memory goes back when the last of its block is removed
  std::byte* address(SlotId slot) const { return slots_[slot].address; }
  // Gives the slot one of the spare buffers and keeps its old one for later. Says until when the new one is read.
  struct Reader {
    Ticket ticket = 0;
    cudaEvent_t over = nullptr;
  };
  Reader exchange(SlotId, const Reader& of_old);
  int spares(Precision p) const { return static_cast<int>(pool(p).spares.size()); }
  int wanted_spares(Precision) const;
  int expert_slots(Precision p) const { return pool(p).expert_slots; }
  int staging_slots(Precision p) const { return pool(p).staging_slots; }
  std::int64_t allocated_bytes() const { return allocated_bytes_; }
  std::int64_t slot_bytes(Precision p) const { return pool(p).slot_bytes; }
  std::int64_t bytes_of(SlotId slot) const { return slot_bytes(slots_[slot].precision); }

  // The table: device address of each expert's blob, 0 where a kernel must not start it. In mapped host memory; written
  // by the host while no router runs.
  void publish(ExpertId id, SlotId slot);
  void unpublish(ExpertId id);
  bool is_published(ExpertId id) const { return table_[index(id)] != 0; }
  std::uint64_t published(ExpertId id) const { return table_[index(id)]; }
  bool any_published(int layer) const { return published_[static_cast<std::size_t>(layer)] > 0; }
  const std::uint64_t* table(int layer) const { return table_.data() + std::int64_t{layer} * experts_; }

 private:
  struct Slot {
    std::byte* address = nullptr;  // nullptr: not in use
    std::uint32_t block = 0;
    Precision precision = Precision::native;
    bool staging = false;
  };
  struct Spare {
    std::byte* address = nullptr;
    std::uint32_t block = 0;
    Reader reader;
  };
  struct Block {
    DeviceArray<std::byte> bytes;
    int used = 0;
  };
  struct Pool {  // the slots of one precision
    std::int64_t slot_bytes = 0;
    std::deque<Spare> spares;  // longest unused first
    std::uint32_t spares_block = 0;
    int expert_slots = 0, staging_slots = 0;
  };
  const Pool& pool(Precision p) const { return pools_[static_cast<std::size_t>(p)]; }
  Pool& pool(Precision p) { return pools_[static_cast<std::size_t>(p)]; }
  std::size_t index(ExpertId id) const { return static_cast<std::size_t>(id.layer * experts_ + id.expert); }
  std::uint32_t free_block();
  std::uint32_t add_block(int buffers, std::int64_t bytes);

  int experts_;
  std::array<Pool, 4> pools_;  // by precision
  std::vector<Slot> slots_;
  std::vector<Block> blocks_;
  std::int64_t allocated_bytes_ = 0;
  MappedArray<std::uint64_t> table_;
  std::vector<int> published_;  // by layer
};

}  // namespace expertscope::cuda
