// Which policies can be chosen, and what a choice means for the output. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/policy/registry.h"

namespace expertscope {

struct PresetGroup {
  std::string_view title;
  std::vector<const PresetDecl*> presets;
};
// Presets that run live and hold `filter` in their name, paper or help, in any case. Groups without one are left out.
std::vector<PresetGroup> live_presets(std::string_view filter);

// Components of a kind that run live.
std::vector<const ComponentDecl*> live_components(ComponentKind);

// Whether a policy may change the output: its components decide, as they are in this spec. False for what is no policy.
bool is_inexact_policy(std::string_view spec);

}  // namespace expertscope
