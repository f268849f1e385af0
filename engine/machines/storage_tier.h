// Host memory as a bounded cache of experts over their file, on a real machine (--host-bytes): places of one expert in
// one precision each, a thread that reads into them, and the times that it took. The one that was used longest ago
// makes room; what somebody holds stays. HostTier is the same on emulated machines, where nothing is read.
//
// Threads: one thread calls everything; the reading thread is this object's own.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "engine/ids.h"

namespace expertscope {

class StorageTier {
 public:
  using Place = std::int32_t;
  static constexpr Place kNoPlace = -1;
  struct Read {
    ExpertId expert;
    Precision precision = Precision::native;
    std::byte* blob = nullptr;
    CopyReason reason = CopyReason::demand;
    TimeNs issued_ns = 0, start_ns = 0, end_ns = 0;
  };
  using Reader = std::function<void(ExpertId, Precision, std::byte* blob)>;  // called on the reading thread; may throw
  using Clock = std::function<TimeNs()>;                                     // called on both threads

  // Places of place_bytes in `memory`, which outlives this; the rest of it is left over.
  StorageTier(int layers, int experts, std::span<std::byte> memory, std::int64_t place_bytes, Reader, Clock);
  ~StorageTier();
  StorageTier(const StorageTier&) = delete;
  StorageTier& operator=(const StorageTier&) = delete;

  int places() const { return static_cast<int>(places_.size()); }
  // What it begins with: the first experts of every layer, as many as there is room for, at native precision. The
  // caller reads them.
  std::vector<Read> begin_full();

  // Takes hold of an expert until release. Where it is not in memory a read is queued, by reason: demand before
  // promotion before prefetch before placement. kNoPlace: every place is held, for now.
  Place hold(ExpertId, Precision, CopyReason);
  bool there(Place p) const { return there_[index(p)].load(std::memory_order_acquire); }
  const std::byte* blob(Place p) const { return places_[index(p)].blob; }
  void raise(Place);  // a demand waits for it
  void release(Place);

  // The next read that has ended since it was last asked, in the order in which they ended; false when there is none.
  // Throws what a read threw.
  bool next_read(Read&);

 private:
  struct Held {
    std::byte* blob = nullptr;
    ExpertId expert;
    Precision precision = Precision::native;
    bool used = false;  // it has an expert
    int holders = 0;
    std::uint64_t last_use = 0;
  };
  struct Wish {
    Read read;
    Place place = kNoPlace;
  };
  static std::size_t index(Place p) { return static_cast<std::size_t>(p); }
  Place& place_of(ExpertId, Precision);
  Place place_for(ExpertId, Precision);
  void read_on();

  int layers_, experts_;
  Reader reader_;
  Clock clock_;
  std::vector<Held> places_;
  std::vector<std::atomic<bool>> there_;  // by place
  std::vector<Place> place_of_;           // by precision, layer and expert
  std::uint64_t uses_ = 0;

  std::atomic<bool> has_news_{false};  // ended_ or failure_
  std::mutex mutex_;                   // guards what follows
  std::condition_variable wake_;
  std::deque<Wish> wishes_;  // in the order in which they will be read
  std::deque<Read> ended_;
  std::exception_ptr failure_;
  bool stop_ = false;
  std::jthread thread_;
};

}  // namespace expertscope
