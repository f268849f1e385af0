// Whoever wants to know what the engine's thread is about to launch.
#pragma once

#include "engine/observer.h"

namespace expertscope {

// Called on the launching thread around each group of launches of one tag, never nested. Must not block.
class LaunchListener {
 public:
  virtual ~LaunchListener() = default;
  virtual void begin(const LaunchTag&) = 0;
  virtual void end() = 0;
};

}  // namespace expertscope
