// Which GPU each expert belongs to on a machine with several: its slots, its copies and its work are there. A layer's
// experts are divided evenly by number; which of them share a GPU is what load balancing decides (reference:
// policies.md B4).
#pragma once

#include <cstdint>
#include <vector>

namespace expertscope {

struct PolicyContext;

// Experts by GPU: neighbours by number; by mean load; by mean load and by how loads go together. As the choices of
// `capacity.balance`.
enum class Balance : std::uint8_t { even, greedy, anti_correlation };

// How the cache's slots are divided. Per layer: a layer's experts compete for its own slots. Global: all for all.
struct Pools {
  bool global = false;
  std::vector<int> slots;  // [layer], or one entry
};

// The GPU of each expert, [layer * experts + expert]. Loads are the prior's; without them neighbours stay together.
std::vector<std::uint8_t> homes_of(Balance, const PolicyContext&);

// Each GPU's part of the pools: as many of a pool's slots as it has of the pool's experts, within one slot.
std::vector<Pools> divide(const Pools&, const std::vector<std::uint8_t>& homes, const PolicyContext&);

}  // namespace expertscope
