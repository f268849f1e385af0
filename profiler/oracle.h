// What an oracle would have hit: the dashed line beside a live hit rate. For each finished window of decode steps under
// one policy and cache size, Belady's rule for request sets with bypass (reference: policies.md O1): one global pool of
// the epoch's slots, holding at the start of the window what the real cache held then, knowing the window's demands and
// nothing after it. It counts misses and has no time; replay's `belady` has both, for a whole session.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <vector>

#include "profiler/trace.h"

namespace expertscope {

struct OracleWindow {
  TimeNs start_ns = 0, end_ns = 0;
  std::uint32_t first_step = 0, last_step = 0;
  std::int64_t demands = 0, hits = 0;
  double hit_rate() const { return demands > 0 ? static_cast<double>(hits) / static_cast<double>(demands) : 0; }
};

// Hits of the oracle on requests (one set of distinct experts each) with so many slots, starting from `cache`.
std::int64_t oracle_hits(std::span<const std::vector<std::uint32_t>> requests, std::size_t slots,
                         std::set<std::uint32_t> cache);

// Windows of one trace, caught up with at a cost that grows with what is new.
class OracleWindows {
 public:
  static constexpr std::size_t kSteps = 32;  // decode steps; a change of epoch or prompt ends a window early
  void update(const Trace&);
  std::span<const OracleWindow> windows() const { return windows_; }

 private:
  void finish(const Trace&);

  std::vector<OracleWindow> windows_;
  std::vector<std::size_t> open_;  // indices of the steps of the window in work
  std::size_t steps_seen_ = 0, residency_seen_ = 0;
  std::set<std::uint32_t> resident_;  // of the real cache, up to residency_seen_
};

}  // namespace expertscope
