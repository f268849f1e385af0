// Where an expert in one precision is in arrays of [precision][layer][expert].
#pragma once

#include <cstddef>

#include "engine/ids.h"

namespace expertscope {

inline std::size_t version_index(ExpertId id, Precision p, int layers, int experts) {
  return static_cast<std::size_t>((static_cast<int>(p) * layers + id.layer) * experts + id.expert);
}

}  // namespace expertscope
