// The presets that a run may be under while it lives and at any cache ratio: all but those of replay and `resident`.
#pragma once

#include <string>
#include <vector>

#include "engine/policy/policy.h"

namespace expertscope {

inline std::vector<std::string> live_presets(bool exact_only) {
  std::vector<std::string> out;
  for (const PresetDecl& p : preset_decls()) {
    if (!p.replay_only && p.name != "resident" && (p.exact || !exact_only)) out.emplace_back(p.name);
  }
  return out;
}

}  // namespace expertscope
