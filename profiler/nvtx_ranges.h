// Ranges of token, layer and reason for whoever looks on from outside (Nsight Systems): the same story as in a session.
#pragma once

#include <memory>

#include "profiler/launch_listener.h"

namespace expertscope {

// Launching thread. Ranges nest: step, layer, launch; the layer's spans from its first launch to the next layer's.
class NvtxRanges : public LaunchListener {
 public:
  // nullptr when no tool listens, which is the usual case, or when the program was built without CUDA.
  static std::unique_ptr<NvtxRanges> start();
};

}  // namespace expertscope
