// What counts as an inexact action: one that changes what the model computes.
#pragma once

#include "engine/observer.h"

namespace expertscope {

// The demand was left out, replaced, computed ahead on a predicted input, run below native precision, or weighted
// otherwise than its router said.
inline bool is_inexact(const DemandRecord& d) {
  return d.revised || d.precision != Precision::native || d.outcome == Outcome::cpu_early ||
         d.outcome == Outcome::skipped || d.outcome == Outcome::substituted;
}

}  // namespace expertscope
