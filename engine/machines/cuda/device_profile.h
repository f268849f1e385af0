// What a GPU says of itself and a first measurement of its link, as the machine profile that a run is recorded with.
#pragma once

#include <cstddef>
#include <span>

#include <cuda_runtime_api.h>

#include "engine/machines/cuda/device_clock.h"
#include "engine/machines/profile.h"

namespace expertscope::cuda {

inline constexpr double kSmoothing = 0.1;  // of measured costs

// Makes it the calling thread's device, with mapped host memory.
cudaDeviceProp use_device(int device);

// What a session needs to be replayed on an emulated machine: the link is measured at the start, the rest is what the
// device says of itself and common values; `expertscope calibrate` measures all of it.
MachineProfile profile_of(const cudaDeviceProp&, int threads, double h2d_bytes_per_s);

// The rate of page-locked copies: the best of a few, of so many bytes that a copy's latency does not count.
// Waits for the stream.
double measure_link(std::span<const std::byte> page_locked, const DeviceClock&, cudaStream_t);

}  // namespace expertscope::cuda
