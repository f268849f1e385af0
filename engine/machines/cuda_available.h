// What this build knows about CUDA. Safe to call from any thread, on any machine, with or without a driver; makes no
// CUDA context.
#pragma once

#include <cstdint>
#include <string>

namespace expertscope {

enum class CudaState : std::uint8_t {
  usable,
  absent,    // built without CUDA, no driver, or no device
  unusable,  // there is something, and it does not work: a driver or a GPU that is too old
};

struct CudaStatus {
  CudaState state = CudaState::absent;
  std::string text;      // why there is none and what to do, for people; "" when usable
  std::string gpu = {};  // "NVIDIA H200", the device that runs are on; "" without one
};
CudaStatus cuda_status();

// "CUDA 13.0" with what the driver supports when there is one, or "built without CUDA".
std::string cuda_build_description();

// The number of usable CUDA devices.
int cuda_device_count();

}  // namespace expertscope
