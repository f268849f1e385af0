// Host memory as a bounded cache over storage (--host-bytes): which experts it holds, and in which precision; each
// takes the room of one at native precision. The one that was used longest ago makes room. Bookkeeping only: the reads
// are the machine's.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/ids.h"
#include "engine/machines/version_index.h"

namespace expertscope {

class HostTier {
 public:
  // Begins filled with the first experts of every layer at native precision, as many as there is room for.
  HostTier(int layers, int experts, std::int64_t expert_bytes, std::int64_t host_bytes);

  // Takes note of a use. False when storage has to be read: then the expert is held from now on.
  bool use(ExpertId, Precision);

 private:
  std::size_t index(ExpertId id, Precision p) const { return version_index(id, p, layers_, experts_); }

  int layers_, experts_;
  std::size_t room_, held_ = 0;
  std::uint64_t clock_ = 0;
  std::vector<std::uint64_t> last_use_;  // 0: not held
};

}  // namespace expertscope
