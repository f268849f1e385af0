// Which expert is in which slot: the host's map of device memory. Bookkeeping only: copies are the executor's. Eviction
// is a map update; nothing is ever copied back.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/ids.h"
#include "engine/machine.h"
#include "engine/policy/component.h"

namespace expertscope {

// The last operation that reads a slot: what is written into it next must wait for it.
class LastReaders {
 public:
  Ticket of(SlotId slot) const { return slot < tickets_.size() ? tickets_[slot] : 0; }
  void set(SlotId slot, Ticket t) {
    if (slot >= tickets_.size()) tickets_.resize(slot + std::size_t{1}, 0);
    tickets_[slot] = t;
  }

 private:
  std::vector<Ticket> tickets_;
};

class ExpertCache {
 public:
  enum class State : std::uint8_t { absent, loading, resident };

  struct Entry {
    State state = State::absent;
    SlotId slot = kNone16;
    Ticket ready = 0;                        // completion of the copy that fills the slot
    CopyReason reason = CopyReason::demand;  // why it was loaded
    bool used = false;                       // by a demand since then
    bool staged = false;                     // in a staging slot: takes no room in its pool
    std::uint32_t member = 0;                // its place among the members of its pool
    std::uint64_t expected_tick = 0;         // staged: when its layer runs
  };

  ExpertCache(int layers, int experts);

  const Entry& at(ExpertId id) const { return entries_[index(id)]; }
  Entry& at(ExpertId id) { return entries_[index(id)]; }
  int layers() const { return layers_; }
  int experts() const { return experts_; }

  // --- GPUs: an expert belongs to one, whose slots it uses
  void set_homes(std::vector<std::uint8_t> homes, int devices);  // nothing may be in the cache, which has no slots
  const std::vector<std::uint8_t>& homes() const { return homes_; }
  std::uint8_t device_of(ExpertId id) const { return homes_[index(id)]; }

  // --- slots and pools. Each GPU has its part of every pool.
  void set_pools(Pools all, std::vector<Pools> by_device);
  const Pools& pools() const { return pools_; }  // of all GPUs together
  int pool_slots(int device) const;              // of all its pools
  int slot_count() const;
  int slot_count(int device) const { return slots_on(device).main.count; }
  void add_slots(int device, std::span<const SlotId> slots) { slots_on(device).main.add(slots); }
  SlotId take_free_slot(int device) { return slots_on(device).main.remove(); }
  bool pool_has_room(ExpertId) const;       // it may be loaded without an eviction
  int pool_overflow(ExpertId) const;        // experts too many in its pool since that became smaller
  int pool_room(ExpertId) const;            // experts that its pool may hold
  std::size_t pool_number(ExpertId) const;  // from 0, below pool_count()
  std::size_t pool_count() const { return slots_.size() * static_cast<std::size_t>(layers_); }
  bool is_in_pool(ExpertId id) const { return at(id).state != State::absent && !at(id).staged; }
  // Experts that compete with it for a slot, in no order, until one enters or leaves.
  std::span<const ExpertId> in_pool_of(ExpertId member) const { return members_[pool_number(member)]; }

  // --- changes
  void start_loading(ExpertId, SlotId, CopyReason);  // the slot must be free: take one with free_slot()
  SlotId free_slot(ExpertId incoming) { return slots_on(device_of(incoming)).main.take(); }  // on its GPU

  // --- experts that were copied early and wait in staging slots until they are used
  int staged_slot_count(int device) const { return slots_on(device).staging.count; }
  void add_staged_slots(int device, std::span<const SlotId> slots) { slots_on(device).staging.add(slots); }
  SlotId take_staged_slot(int device) { return slots_on(device).staging.remove(); }
  bool has_staged_slot(ExpertId incoming) const { return !slots_on(device_of(incoming)).staging.free.empty(); }
  void start_staging(ExpertId, CopyReason, std::uint64_t expected_tick);
  const std::vector<ExpertId>& staged() const { return staged_; }
  // The expert joins its pool, which must have room; a free slot of the pool becomes a staging slot.
  void adopt(ExpertId);

  // --- endings
  void loaded(ExpertId);     // its copy completed
  SlotId release(ExpertId);  // evicted, dropped or cancelled; its slot is free again

  // Experts whose copy is under way, in the order in which they were started.
  const std::vector<ExpertId>& loading() const { return loading_; }

  // Of the versions that it holds.
  Precision precision() const { return precision_; }
  void set_precision(Precision p) { precision_ = p; }

 private:
  std::size_t index(ExpertId id) const { return static_cast<std::size_t>(id.layer * experts_ + id.expert); }
  // Slots of one kind on one GPU, and those of them that no expert occupies.
  struct SlotList {
    int count = 0;
    std::vector<SlotId> free;  // taken from the back: the lowest number first
    void add(std::span<const SlotId>);
    SlotId take();    // for an expert; asserts that there is one
    SlotId remove();  // a free one leaves the list
  };
  struct DeviceSlots {
    SlotList main, staging;
    Pools pools;
  };
  const DeviceSlots& slots_on(int device) const { return slots_[static_cast<std::size_t>(device)]; }
  DeviceSlots& slots_on(int device) { return slots_[static_cast<std::size_t>(device)]; }
  int occupied(ExpertId id) const { return static_cast<int>(in_pool_of(id).size()); }
  void enter_pool(ExpertId);
  void leave_pool(ExpertId);

  int layers_, experts_;
  Precision precision_ = Precision::native;
  Pools pools_;
  std::vector<std::uint8_t> homes_;  // [layer * experts + expert]
  std::vector<DeviceSlots> slots_;   // by GPU
  std::vector<Entry> entries_;
  std::vector<std::vector<ExpertId>> members_;  // by pool number: neither absent nor staged
  std::vector<ExpertId> loading_, staged_;
};

}  // namespace expertscope
