#include "engine/machines/storage_tier.h"

#include <algorithm>
#include <utility>

#include "engine/assert.h"
#include "engine/machines/version_index.h"

namespace expertscope {

StorageTier::StorageTier(int layers, int experts, std::span<std::byte> memory, std::int64_t place_bytes, Reader reader,
                         Clock clock)
    : layers_(layers),
      experts_(experts),
      reader_(std::move(reader)),
      clock_(std::move(clock)),
      places_(memory.size() / static_cast<std::size_t>(place_bytes)),
      there_(places_.size()),
      place_of_(kPrecisions.size() * static_cast<std::size_t>(layers * experts), kNoPlace) {
  for (std::size_t i = 0; i < places_.size(); ++i)
    places_[i].blob = memory.data() + i * static_cast<std::size_t>(place_bytes);
  thread_ = std::jthread([this] { read_on(); });
}

StorageTier::~StorageTier() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
}

StorageTier::Place& StorageTier::place_of(ExpertId id, Precision p) {
  return place_of_[version_index(id, p, layers_, experts_)];
}

std::vector<StorageTier::Read> StorageTier::begin_full() {
  std::vector<Read> reads;
  for (int e = 0; e < experts_; ++e) {
    for (int l = 0; l < layers_ && reads.size() < places_.size(); ++l) {
      const ExpertId id{static_cast<std::uint16_t>(l), static_cast<std::uint16_t>(e)};
      const Place p = place_for(id, Precision::native);
      there_[index(p)] = true;
      reads.push_back({.expert = id, .blob = places_[index(p)].blob, .reason = CopyReason::placement});
    }
  }
  return reads;
}

// An empty place, or that of the expert used longest ago that nobody holds and that is not being read.
StorageTier::Place StorageTier::place_for(ExpertId id, Precision precision) {
  std::size_t oldest = places_.size();
  for (std::size_t i = 0; i < places_.size(); ++i) {
    const Held& h = places_[i];
    if (h.used && (h.holders > 0 || !there_[i].load(std::memory_order_acquire))) continue;
    if (oldest == places_.size() || h.last_use < places_[oldest].last_use) oldest = i;
    if (!h.used) break;
  }
  if (oldest == places_.size()) return kNoPlace;
  Held& h = places_[oldest];
  if (h.used) place_of(h.expert, h.precision) = kNoPlace;
  h.expert = id;
  h.precision = precision;
  h.used = true;
  h.last_use = ++uses_;
  there_[oldest] = false;
  return place_of(id, precision) = static_cast<Place>(oldest);
}

StorageTier::Place StorageTier::hold(ExpertId id, Precision precision, CopyReason reason) {
  Place p = place_of(id, precision);
  if (p == kNoPlace) {
    p = place_for(id, precision);
    if (p == kNoPlace) return kNoPlace;
    const Wish wish{.read = {.expert = id,
                             .precision = precision,
                             .blob = places_[index(p)].blob,
                             .reason = reason,
                             .issued_ns = clock_()},
                    .place = p};
    const std::lock_guard lock(mutex_);
    const auto at = std::upper_bound(wishes_.begin(), wishes_.end(), wish, [](const Wish& a, const Wish& b) {
      return a.read.reason < b.read.reason;  // reasons of experts are in the order of their worth
    });
    wishes_.insert(at, wish);
    wake_.notify_one();
  }
  Held& h = places_[index(p)];
  ++h.holders;
  h.last_use = ++uses_;
  return p;
}

void StorageTier::raise(Place p) {
  if (there(p)) return;
  const std::lock_guard lock(mutex_);
  const auto wish = std::ranges::find(wishes_, p, &Wish::place);
  if (wish == wishes_.end()) return;
  const Wish first = *wish;
  wishes_.erase(wish);
  const auto demands_end =
      std::ranges::find_if(wishes_, [](const Wish& w) { return w.read.reason != CopyReason::demand; });
  wishes_.insert(demands_end, first);
}

void StorageTier::release(Place p) {
  Held& h = places_[index(p)];
  ES_ASSERT(h.holders > 0, "releases what nobody holds");
  --h.holders;
}

bool StorageTier::next_read(Read& read) {
  if (!has_news_.load(std::memory_order_acquire)) return false;
  const std::lock_guard lock(mutex_);
  if (failure_) std::rethrow_exception(failure_);
  if (ended_.empty()) {
    has_news_ = false;
    return false;
  }
  read = ended_.front();
  ended_.pop_front();
  return true;
}

void StorageTier::read_on() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return stop_ || !wishes_.empty(); });
    if (stop_) return;
    Wish wish = wishes_.front();
    wishes_.pop_front();
    lock.unlock();
    std::exception_ptr failure;
    wish.read.start_ns = clock_();
    try {
      reader_(wish.read.expert, wish.read.precision, wish.read.blob);
    } catch (...) {
      failure = std::current_exception();
    }
    wish.read.end_ns = clock_();
    lock.lock();
    if (failure) {
      failure_ = failure;
    } else {
      ended_.push_back(wish.read);
      there_[index(wish.place)].store(true, std::memory_order_release);
    }
    has_news_.store(true, std::memory_order_release);
    if (failure) return;
  }
}

}  // namespace expertscope
