#include "engine/run/expert_cache.h"

#include <algorithm>

#include "engine/assert.h"

namespace expertscope {

ExpertCache::ExpertCache(int layers, int experts)
    : layers_(layers),
      experts_(experts),
      entries_(static_cast<std::size_t>(layers * experts)),
      words_((static_cast<std::size_t>(experts) + 63) / 64),
      in_pool_(static_cast<std::size_t>(layers) * words_, 0),
      resident_(in_pool_),
      occupied_(static_cast<std::size_t>(layers), 0) {}

void ExpertCache::add_slots(std::span<const SlotId> slots) {
  // Taken from the back: the lowest number first.
  free_.insert(free_.begin(), slots.rbegin(), slots.rend());
  slot_count_ += static_cast<int>(slots.size());
}

SlotId ExpertCache::take_free_slot() {
  const SlotId slot = free_slot();
  --slot_count_;
  return slot;
}

bool ExpertCache::pool_has_room(int layer) const {
  if (free_.empty()) return false;
  return pools_.global ? occupied_total_ < pools_.slots[0]
                       : occupied_[static_cast<std::size_t>(layer)] < pools_.slots[static_cast<std::size_t>(layer)];
}

int ExpertCache::pool_overflow(int layer) const {
  return pools_.global ? occupied_total_ - pools_.slots[0]
                       : occupied_[static_cast<std::size_t>(layer)] - pools_.slots[static_cast<std::size_t>(layer)];
}

SlotId ExpertCache::free_slot() {
  ES_ASSERT(!free_.empty(), "no free slot");
  const SlotId slot = free_.back();
  free_.pop_back();
  return slot;
}

void ExpertCache::enter_pool(ExpertId id) {
  set(in_pool_, id, true);
  set(resident_, id, at(id).state == State::resident);
  ++occupied_[id.layer];
  ++occupied_total_;
}

void ExpertCache::leave_pool(ExpertId id) {
  set(in_pool_, id, false);
  set(resident_, id, false);
  --occupied_[id.layer];
  --occupied_total_;
}

void ExpertCache::start_loading(ExpertId id, SlotId slot, CopyReason reason) {
  Entry& e = at(id);
  ES_ASSERT(e.state == State::absent, "loads an expert that is already there");
  e = {.state = State::loading, .slot = slot, .reason = reason};
  enter_pool(id);
  loading_.push_back(id);
}

void ExpertCache::add_staged_slots(std::span<const SlotId> slots) {
  staged_free_.insert(staged_free_.begin(), slots.rbegin(), slots.rend());
  staged_slot_count_ += static_cast<int>(slots.size());
}

SlotId ExpertCache::take_staged_slot() {
  ES_ASSERT(!staged_free_.empty(), "no free staging slot");
  const SlotId slot = staged_free_.back();
  staged_free_.pop_back();
  --staged_slot_count_;
  return slot;
}

void ExpertCache::start_staging(ExpertId id, CopyReason reason, std::uint64_t expected_tick) {
  ES_ASSERT(at(id).state == State::absent, "loads an expert that is already there");
  ES_ASSERT(!staged_free_.empty(), "no free staging slot");
  at(id) = {.state = State::loading,
            .slot = staged_free_.back(),
            .reason = reason,
            .staged = true,
            .expected_tick = expected_tick};
  staged_free_.pop_back();
  loading_.push_back(id);
  staged_.push_back(id);
}

void ExpertCache::adopt(ExpertId id) {
  Entry& e = at(id);
  ES_ASSERT(e.staged, "adopts an expert that is not staged");
  staged_free_.push_back(free_slot());
  staged_.erase(std::find(staged_.begin(), staged_.end(), id));
  e.staged = false;
  enter_pool(id);
}

void ExpertCache::loaded(ExpertId id) {
  at(id).state = State::resident;
  if (!at(id).staged) set(resident_, id, true);
  loading_.erase(std::find(loading_.begin(), loading_.end(), id));
}

SlotId ExpertCache::release(ExpertId id) {
  const Entry e = at(id);
  ES_ASSERT(e.state != State::absent, "releases an expert that is not there");
  if (e.state == State::loading) loading_.erase(std::find(loading_.begin(), loading_.end(), id));
  at(id) = {};
  if (e.staged) {
    staged_.erase(std::find(staged_.begin(), staged_.end(), id));
    staged_free_.push_back(e.slot);
    return e.slot;
  }
  leave_pool(id);
  free_.push_back(e.slot);
  return e.slot;
}

}  // namespace expertscope
