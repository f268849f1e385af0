#include <algorithm>

#include "engine/machines/cuda/device.h"
#include "engine/machines/cuda/device_profile.h"

namespace expertscope::cuda {
namespace {

double attribute(cudaDeviceAttr what, int device) {
  int value = 0;
  return cudaDeviceGetAttribute(&value, what, device) == cudaSuccess ? value : 0;
}

}  // namespace

cudaDeviceProp use_device(int device) {
  check(cudaSetDevice(device), "choosing the GPU");
  check(cudaSetDeviceFlags(cudaDeviceMapHost | cudaDeviceScheduleSpin), "choosing the GPU");
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, device), "asking for the GPU's properties");
  return properties;
}

MachineProfile profile_of(const cudaDeviceProp& p, int threads, double h2d_bytes_per_s) {
  MachineProfile profile;
  profile.name = p.name;
  profile.source = "the device's own description, and the link as measured when the run began";
  GpuProfile gpu;
  gpu.name = p.name;
  gpu.memory_bytes = static_cast<std::int64_t>(p.totalGlobalMem);
  const double peak =
      2e3 * attribute(cudaDevAttrMemoryClockRate, 0) * attribute(cudaDevAttrGlobalMemoryBusWidth, 0) / 8;
  gpu.memory_bytes_per_s = peak > 0 ? 0.9 * peak : 500e9;
  gpu.flops_per_s = 1e9 * p.multiProcessorCount * 1000;
  gpu.launch_s = 8e-6;  // an operation is several kernels
  gpu.sync_s = 3e-6;
  profile.gpus = {gpu};
  profile.link = {.h2d_bytes_per_s = h2d_bytes_per_s,
                  .d2h_bytes_per_s = h2d_bytes_per_s,
                  .latency_s = 5e-6,
                  .chunk_bytes = 4 << 20};
  profile.host.memory_bytes = std::int64_t{1} << 40;
  profile.host.memory_bytes_per_s = profile.host.shared_memory_bytes_per_s = 60e9;
  profile.host.flops_per_s = 20e9 * threads;
  profile.host.threads = threads;
  profile.host.task_s = 10e-6;
  profile.host.policy_s = 3e-6;
  profile.host.sampling_s = 50e-6;
  profile.storage = {.read_bytes_per_s = 3e9, .latency_s = 1e-4};
  return profile;
}

double measure_link(std::span<const std::byte> store, const DeviceClock& clock, cudaStream_t stream) {
  const std::size_t bytes = std::min<std::size_t>(store.size(), 64 << 20);
  DeviceArray<std::byte> to(static_cast<std::int64_t>(bytes));
  TimeNs best = INT64_MAX;
  for (int i = 0; i < 4; ++i) {
    const TimeNs begin = clock.now();
    check(cudaMemcpyAsync(to.data(), store.data(), bytes, cudaMemcpyHostToDevice, stream), "measuring the link");
    check(cudaStreamSynchronize(stream), "measuring the link");
    best = std::min(best, clock.now() - begin);
  }
  return static_cast<double>(bytes) * 1e9 / static_cast<double>(std::max<TimeNs>(best, 1));
}

}  // namespace expertscope::cuda
