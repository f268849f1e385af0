#include <cuda_runtime_api.h>

#include "engine/machines/cuda_available.h"

namespace expertscope {
namespace {

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

}  // namespace

std::string cuda_build_description() {
  const std::string built = "CUDA " + version_text(CUDART_VERSION);
  int driver_version = 0;
  if (cudaDriverGetVersion(&driver_version) != cudaSuccess || driver_version == 0) return built + ", no driver";
  return built + ", driver supports " + version_text(driver_version);
}

int cuda_device_count() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    // A missing driver is an answer, not an error for the next call to find.
    (void)cudaGetLastError();
    return 0;
  }
  return count;
}

}  // namespace expertscope
