#include "engine/machines/cuda_available.h"

namespace expertscope {

CudaStatus cuda_status() {
  return {CudaState::absent,
          "this program was built without CUDA; build it where a CUDA toolkit is (./dev setup --cuda)"};
}

std::string cuda_build_description() {
  return "built without CUDA";
}

int cuda_device_count() {
  return 0;
}

}  // namespace expertscope
