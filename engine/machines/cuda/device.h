// CUDA's errors as ours, and memory and streams that free themselves. Host code; one device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <utility>

#include <cuda_runtime_api.h>

#include "engine/error.h"

namespace expertscope::cuda {

// RunError that says what was being done and what CUDA answered.
inline void check(cudaError_t result, const char* what) {
  if (result == cudaSuccess) return;
  (void)cudaGetLastError();
  throw RunError(std::string("the GPU failed while ") + what + ": " + cudaGetErrorString(result) +
                 (result == cudaErrorMemoryAllocation
                      ? "; lower the cache ratio or close what else uses its memory"
                      : "; the run cannot go on, start it again, and look at nvidia-smi when it comes back"));
}
// The same for memory: says how much was wanted and how much there is.
inline void check_device_memory(cudaError_t result, std::size_t bytes) {
  if (result != cudaErrorMemoryAllocation) return check(result, "allocating device memory");
  (void)cudaGetLastError();
  std::size_t free = 0, total = 0;
  (void)cudaMemGetInfo(&free, &total);
  const auto mb = [](std::size_t n) { return std::to_string(n / 1'000'000) + " MB"; };
  throw RunError("GPU memory is used up: " + mb(bytes) + " more are needed, and " + mb(free) + " of " + mb(total) +
                 " are free; lower the cache ratio, or close what else uses this GPU (nvidia-smi lists it)");
}
inline void check_host_memory(cudaError_t result, std::size_t bytes) {
  if (result != cudaErrorMemoryAllocation) return check(result, "page-locking host memory");
  (void)cudaGetLastError();
  throw RunError(
      "host memory is used up: " + std::to_string(bytes / 1'000'000) +
      " MB could not be page-locked, which copies to the GPU need; close other programs, or choose a smaller "
      "model");
}
inline void check_launch(const char* what) {
  check(cudaGetLastError(), what);
}

// Values in device memory.
template <typename T>
class DeviceArray {
 public:
  DeviceArray() = default;
  explicit DeviceArray(std::int64_t count) : count_(count) {
    if (count == 0) return;
    check_device_memory(cudaMalloc(reinterpret_cast<void**>(&data_), bytes()), bytes());
  }
  DeviceArray(DeviceArray&& other) noexcept { *this = std::move(other); }
  DeviceArray& operator=(DeviceArray&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
    return *this;
  }
  ~DeviceArray() { (void)cudaFree(data_); }
  T* data() const { return data_; }
  std::int64_t size() const { return count_; }
  std::size_t bytes() const { return static_cast<std::size_t>(count_) * sizeof(T); }

 private:
  T* data_ = nullptr;
  std::int64_t count_ = 0;
};

// Values in page-locked host memory that kernels reach at the same address. Zero at the start.
template <typename T>
class MappedArray {
 public:
  MappedArray() = default;
  explicit MappedArray(std::int64_t count) : count_(count) {
    if (count == 0) return;
    const auto bytes = static_cast<std::size_t>(count) * sizeof(T);
    check_host_memory(
        cudaHostAlloc(reinterpret_cast<void**>(&data_), bytes, cudaHostAllocMapped | cudaHostAllocPortable), bytes);
    std::memset(static_cast<void*>(data_), 0, bytes);
  }
  MappedArray(MappedArray&& other) noexcept { *this = std::move(other); }
  MappedArray& operator=(MappedArray&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
    return *this;
  }
  ~MappedArray() { (void)cudaFreeHost(data_); }
  T* data() const { return data_; }
  T& operator[](std::size_t i) const { return data_[i]; }
  std::int64_t size() const { return count_; }

 private:
  T* data_ = nullptr;
  std::int64_t count_ = 0;
};

// A stream of its own, without the default stream's waiting.
class Stream {
 public:
  Stream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream"); }
  ~Stream() {
    (void)cudaStreamSynchronize(stream_);
    (void)cudaStreamDestroy(stream_);
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator cudaStream_t() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

// The host store of experts, page-locked for as long as this lives.
class PageLock {
 public:
  explicit PageLock(std::span<const std::byte> bytes) : bytes_(bytes) {
    if (bytes.empty()) return;
    check_host_memory(cudaHostRegister(const_cast<std::byte*>(bytes.data()), bytes.size(), cudaHostRegisterPortable),
                      bytes.size());
  }
  ~PageLock() {
    if (!bytes_.empty()) (void)cudaHostUnregister(const_cast<std::byte*>(bytes_.data()));
  }
  PageLock(const PageLock&) = delete;
  PageLock& operator=(const PageLock&) = delete;

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace expertscope::cuda
