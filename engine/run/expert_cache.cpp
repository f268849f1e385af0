#include "engine/run/expert_cache.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "engine/assert.h"

namespace expertscope {

void ExpertCache::SlotList::add(std::span<const SlotId> slots) {
  free.insert(free.begin(), slots.rbegin(), slots.rend());
  count += static_cast<int>(slots.size());
}

SlotId ExpertCache::SlotList::take() {
  ES_ASSERT(!free.empty(), "no free slot");
  const SlotId slot = free.back();
  free.pop_back();
  return slot;
}

SlotId ExpertCache::SlotList::remove() {
  --count;
  return take();
}

ExpertCache::ExpertCache(int layers, int experts)
    : layers_(layers), experts_(experts), entries_(static_cast<std::size_t>(layers * experts)) {
  set_homes(std::vector<std::uint8_t>(entries_.size(), 0), 1);
}

void ExpertCache::set_homes(std::vector<std::uint8_t> homes, int devices) {
  homes_ = std::move(homes);
  slots_.assign(static_cast<std::size_t>(devices), {});
  members_.assign(pool_count(), {});
}

void ExpertCache::set_pools(Pools all, std::vector<Pools> by_device) {
  std::vector<ExpertId> members;
  for (const std::vector<ExpertId>& pool : members_) members.insert(members.end(), pool.begin(), pool.end());
  pools_ = std::move(all);
  for (std::size_t d = 0; d < slots_.size(); ++d) slots_[d].pools = std::move(by_device[d]);
  members_.assign(pool_count(), {});
  for (ExpertId id : members) enter_pool(id);
}

int ExpertCache::pool_slots(int device) const {
  const std::vector<int>& slots = slots_on(device).pools.slots;
  return std::accumulate(slots.begin(), slots.end(), 0);
}

int ExpertCache::slot_count() const {
  int sum = 0;
  for (const DeviceSlots& d : slots_) sum += d.main.count;
  return sum;
}

std::size_t ExpertCache::pool_number(ExpertId id) const {
  return static_cast<std::size_t>(device_of(id) * layers_ + (pools_.global ? 0 : id.layer));
}

int ExpertCache::pool_room(ExpertId id) const {
  return slots_on(device_of(id)).pools.slots[pools_.global ? 0 : id.layer];
}

bool ExpertCache::pool_has_room(ExpertId id) const {
  return !slots_on(device_of(id)).main.free.empty() && occupied(id) < pool_room(id);
}

int ExpertCache::pool_overflow(ExpertId id) const {
  return occupied(id) - pool_room(id);
}

void ExpertCache::enter_pool(ExpertId id) {
  std::vector<ExpertId>& members = members_[pool_number(id)];
  at(id).member = static_cast<std::uint32_t>(members.size());
  members.push_back(id);
}

void ExpertCache::leave_pool(ExpertId id) {
  std::vector<ExpertId>& members = members_[pool_number(id)];
  at(members.back()).member = at(id).member;
  members[at(id).member] = members.back();
  members.pop_back();
}

void ExpertCache::start_loading(ExpertId id, SlotId slot, CopyReason reason) {
  Entry& e = at(id);
  ES_ASSERT(e.state == State::absent, "loads an expert that is already there");
  e = {.state = State::loading, .slot = slot, .reason = reason};
  enter_pool(id);
  loading_.push_back(id);
}

void ExpertCache::start_staging(ExpertId id, CopyReason reason, std::uint64_t expected_tick) {
  ES_ASSERT(at(id).state == State::absent, "loads an expert that is already there");
  at(id) = {.state = State::loading,
            .slot = slots_on(device_of(id)).staging.take(),
            .reason = reason,
            .staged = true,
            .expected_tick = expected_tick};
  loading_.push_back(id);
  staged_.push_back(id);
}

void ExpertCache::adopt(ExpertId id) {
  Entry& e = at(id);
  ES_ASSERT(e.staged, "adopts an expert that is not staged");
  slots_on(device_of(id)).staging.free.push_back(free_slot(id));
  staged_.erase(std::find(staged_.begin(), staged_.end(), id));
  e.staged = false;
  enter_pool(id);
}

void ExpertCache::loaded(ExpertId id) {
  at(id).state = State::resident;
  loading_.erase(std::find(loading_.begin(), loading_.end(), id));
}

SlotId ExpertCache::release(ExpertId id) {
  const Entry e = at(id);
  ES_ASSERT(e.state != State::absent, "releases an expert that is not there");
  if (e.state == State::loading) loading_.erase(std::find(loading_.begin(), loading_.end(), id));
  if (e.staged) {
    at(id) = {};
    staged_.erase(std::find(staged_.begin(), staged_.end(), id));
    slots_on(device_of(id)).staging.free.push_back(e.slot);
    return e.slot;
  }
  leave_pool(id);
  at(id) = {};
  slots_on(device_of(id)).main.free.push_back(e.slot);
  return e.slot;
}

}  // namespace expertscope
