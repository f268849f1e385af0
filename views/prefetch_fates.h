// What became of every prefetch copy: used in time, late, or evicted without having been asked for. Extended with the
// trace.
#pragma once

#include <cstdint>
#include <vector>

#include "profiler/trace.h"
#include "views/palette.h"

namespace expertscope {

struct PrefetchCounts {
  std::uint32_t used = 0, late = 0, wasted = 0, pending = 0;
  std::uint32_t all() const { return used + late + wasted + pending; }
};

class PrefetchFates {
 public:
  void update(const Trace&);
  // By CopyRecord::copy; pending for what is no prefetch.
  PrefetchFate of(std::uint32_t copy) const { return copy < fates_.size() ? fates_[copy] : PrefetchFate::pending; }
  bool any() const { return !fates_.empty(); }
  // Of the prefetches that a step issued.
  PrefetchCounts issued_in(std::uint32_t step) const {
    return step < counts_.size() ? counts_[step] : PrefetchCounts{};
  }

 private:
  void settle(const Trace&, std::uint16_t layer, std::uint16_t expert, TimeNs at_ns, PrefetchFate);

  struct Waiting {
    std::uint32_t copy = 0;
    std::uint32_t step = 0;
    TimeNs issued_ns = 0;
  };
  std::vector<PrefetchFate> fates_;
  std::vector<PrefetchCounts> counts_;         // by step of issue
  std::vector<std::vector<Waiting>> waiting_;  // per (layer, expert), oldest first; at most a few
  std::size_t next_copy_ = 0, next_step_ = 0, next_residency_ = 0;
};

}  // namespace expertscope
