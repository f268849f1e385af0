#include "profiler/nvtx_ranges.h"

namespace expertscope {

std::unique_ptr<NvtxRanges> NvtxRanges::start() {
  return nullptr;
}

}  // namespace expertscope
