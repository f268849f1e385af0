#include "engine/machines/host_tier.h"

#include <algorithm>

namespace expertscope {

HostTier::HostTier(int layers, int experts, std::int64_t expert_bytes, std::int64_t host_bytes)
    : layers_(layers),
      experts_(experts),
      room_(static_cast<std::size_t>(host_bytes / expert_bytes)),
      last_use_(kPrecisions.size() * static_cast<std::size_t>(layers * experts), 0) {
  for (int e = 0; e < experts; ++e) {
    for (int l = 0; l < layers && held_ < room_; ++l) {
      last_use_[index({static_cast<std::uint16_t>(l), static_cast<std::uint16_t>(e)}, Precision::native)] = ++clock_;
      ++held_;
    }
  }
}

bool HostTier::use(ExpertId id, Precision precision) {
  std::uint64_t& mine = last_use_[index(id, precision)];
  const bool was_held = mine != 0;
  if (!was_held && held_ == room_) {
    std::uint64_t* oldest = nullptr;
    for (std::uint64_t& other : last_use_) {
      if (other != 0 && (oldest == nullptr || other < *oldest)) oldest = &other;
    }
    *oldest = 0;
    --held_;
  }
  if (!was_held) ++held_;
  mine = ++clock_;
  return was_held;
}

}  // namespace expertscope
