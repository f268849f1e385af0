// What this build knows about CUDA. Safe to call from any thread, on any machine, with or without a driver.
#pragma once

#include <string>

namespace expertscope {

// "CUDA 13.0" with what the driver supports when there is one, or "built without CUDA".
std::string cuda_build_description();

// The number of usable CUDA devices; 0 without a driver, without a device, or in a build without CUDA.
int cuda_device_count();

}  // namespace expertscope
