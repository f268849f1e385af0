// From CUPTI's clock to the host's CLOCK_MONOTONIC, where the two differ: offsets measured every now and then, and a
// straight line between them.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/ids.h"

namespace expertscope {

class CuptiClock {
 public:
  // CUPTI's clock said `cupti_ns` between two readings of the host's.
  void add_sample(std::int64_t cupti_ns, std::int64_t host_before_ns, std::int64_t host_after_ns);

  // Before the first sample: as it is. Outside the samples the nearest offset holds. 0 stays 0.
  std::int64_t to_host(std::int64_t cupti_ns) const;

  // How far apart the two readings around a sample were, at worst: no time is known better than half of that.
  std::int64_t widest_bracket_ns() const { return widest_bracket_ns_; }
  std::size_t samples() const { return samples_.size(); }

 private:
  struct Sample {
    std::int64_t cupti_ns, offset_ns;
  };
  std::vector<Sample> samples_;  // by growing cupti_ns
  std::int64_t widest_bracket_ns_ = 0;
};

}  // namespace expertscope
