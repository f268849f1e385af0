// The lists of `expertscope replay`: which policies at which cache ratios.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/policy/registry.h"

namespace expertscope {

struct ReplayPolicy {
  std::optional<PolicySpec> spec;  // empty: the session's own, epoch by epoch ("recorded")
  bool from_all = false;  // one of `all`: left out with its reason when it cannot be replayed, instead of refused
};

// "lfu,hobbit:evictor=lcu,prefetcher.depth=2,recorded" or "all" (every preset, belady too). A key=value item belongs to
// the preset before it. InputError names what is unknown.
std::vector<ReplayPolicy> parse_policies(std::string_view list);

// "0.125,0.5,recorded"; empty optional = recorded: the session's own.
std::vector<std::optional<double>> parse_cache_ratios(std::string_view list);

}  // namespace expertscope
