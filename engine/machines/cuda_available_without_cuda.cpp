#include "engine/machines/cuda_available.h"

namespace expertscope {

std::string cuda_build_description() {
  return "built without CUDA";
}

int cuda_device_count() {
  return 0;
}

}  // namespace expertscope
