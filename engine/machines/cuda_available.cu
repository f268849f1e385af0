#include <cstdlib>

#include <cuda_runtime_api.h>

#include "engine/machines/cuda_available.h"

namespace expertscope {
namespace {

constexpr int kLeastCapability = 75;  // 7.5

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

// 0 without a driver.
int driver_version() {
  int version = 0;
  const bool known = cudaDriverGetVersion(&version) == cudaSuccess;
  (void)cudaGetLastError();
  return known ? version : 0;
}

CudaStatus unusable(cudaError_t problem) {
  (void)cudaGetLastError();  // an answer, not an error for the next call to find
  const int driver = driver_version();
  if (driver == 0) return {CudaState::absent, "there is no NVIDIA driver; install one of version 580 or later"};
  if (problem == cudaErrorInsufficientDriver || driver / 1000 < CUDART_VERSION / 1000)
    return {CudaState::unusable, "the NVIDIA driver is too old: it supports CUDA " + version_text(driver) +
                                     ", this program needs " + version_text(CUDART_VERSION) +
                                     "; update the driver to version 580 or later"};
  if (problem == cudaErrorNoDevice || problem == cudaSuccess) {
    const char* chosen = std::getenv("CUDA_VISIBLE_DEVICES");
    return {CudaState::absent,
            chosen == nullptr ? std::string("the driver sees no GPU; look at what nvidia-smi says")
                              : "CUDA_VISIBLE_DEVICES is '" + std::string(chosen) + "', which leaves no GPU; unset it"};
  }
  return {CudaState::unusable,
          std::string("CUDA says: ") + cudaGetErrorString(problem) + "; look at what nvidia-smi says"};
}

}  // namespace

CudaStatus cuda_status() {
  int count = 0;
  const cudaError_t asked = cudaGetDeviceCount(&count);
  if (asked != cudaSuccess || count == 0) return unusable(asked);
  cudaDeviceProp properties{};
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, 0); error != cudaSuccess) return unusable(error);
  if (10 * properties.major + properties.minor < kLeastCapability)
    return {CudaState::unusable, std::string("the ") + properties.name + " has compute capability " +
                                     std::to_string(properties.major) + "." + std::to_string(properties.minor) +
                                     ", this program needs 7.5 or later"};
  return {CudaState::usable, "", properties.name};
}

std::string cuda_build_description() {
  const std::string built = "CUDA " + version_text(CUDART_VERSION);
  const int driver = driver_version();
  return built + (driver == 0 ? ", no driver" : ", driver supports " + version_text(driver));
}

int cuda_device_count() {
  int count = 0;
  if (cuda_status().state != CudaState::usable || cudaGetDeviceCount(&count) != cudaSuccess) return 0;
  return count;
}

}  // namespace expertscope
