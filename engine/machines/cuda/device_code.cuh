// What all kernels share: time stamps, reductions, a warp's rows times a few tokens. For .cu files with kernels.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>

#include "engine/machines/cuda/device.h"
#include "engine/machines/cuda/kernels.h"
#include "engine/machines/cuda/weights.cuh"

namespace expertscope::cuda {

inline constexpr int kThreads = 256, kWarps = kThreads / 32;

inline int ceil_div(int a, int b) {  // for launches, on the host
  return (a + b - 1) / b;
}

// Launches a kernel that waits by itself for the one ahead (see wait_for_kernel_ahead).
template <typename... Parameters, typename... Arguments>
void launch_chained(void (*kernel)(Parameters...), dim3 grid, int shared, cudaStream_t stream,
                    const Arguments&... arguments) {
  cudaLaunchAttribute chained{};
  chained.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  chained.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = kThreads;
  config.dynamicSmemBytes = static_cast<std::size_t>(shared);
  config.stream = stream;
  config.attrs = &chained;
  config.numAttrs = kernels_can_chain() ? 1 : 0;
  check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...), "queueing a kernel");
}
// Blocks for so many pieces of work: all at once where the device holds them, else each block the same number of
// rounds.
template <typename Kernel>
int blocks_for(Kernel kernel, int pieces, int shared) {
  static thread_local std::map<int, int> held;  // by shared memory
  int& slots = held[shared];
  if (slots == 0) {
    int device = 0, processors = 0, of_processor = 0;
    check(cudaGetDevice(&device), "asking for the device");
    check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device), "asking for the device");
    check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&of_processor, kernel, kThreads,
                                                        static_cast<std::size_t>(shared)),
          "asking for a kernel");
    slots = std::max(1, of_processor * processors);
  }
  return ceil_div(pieces, ceil_div(pieces, slots));
}
// More shared memory than a kernel may have unasked.
template <typename Kernel>
void allow_shared(Kernel kernel, int bytes) {
  if (bytes <= 32 * 1024) return;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), "asking for shared memory");
}

// Kernels of a decode step are chained (programmatic dependent launch): a kernel's blocks may start while the one ahead
// still runs. What they do before wait_for_kernel_ahead may touch only what no kernel under way writes: weights. Every
// kernel that is launched chained waits, so that its end means the end of all before it. Where the device cannot chain,
// both are nothing.
__device__ __forceinline__ void wait_for_kernel_ahead() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
// When all blocks have said so or ended, the next kernel's blocks may take what room is left.
__device__ __forceinline__ void let_next_kernel_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// What the kernel ahead wrote: past the first-level cache, which may hold what was there before, and never moved before
// the wait.
__device__ __forceinline__ float4 fresh4(const float* p) {
  float4 v;
  asm volatile("ld.global.cg.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
               : "l"(p)
               : "memory");
  return v;
}
__device__ __forceinline__ float fresh(const float* p) {
  float v;
  asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(v) : "l"(p) : "memory");
  return v;
}
__device__ __forceinline__ std::uint64_t fresh(const std::uint64_t* p) {
  std::uint64_t v;
  asm volatile("ld.global.cg.u64 %0, [%1];" : "=l"(v) : "l"(p) : "memory");
  return v;
}
__device__ __forceinline__ void prefetch(const void* p) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(p));
}

__device__ __forceinline__ std::uint64_t global_time() {
  std::uint64_t t;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(t));
  return t;
}

__device__ __forceinline__ bool first_thread_of_grid() {
  return blockIdx.x == 0 && blockIdx.y == 0 && blockIdx.z == 0 && threadIdx.x == 0;
}

__device__ __forceinline__ void stamp_start(const Stamp& stamp) {
  if (stamp.start != nullptr && first_thread_of_grid()) *stamp.start = global_time();
}

// True in all threads of the block that gets here last. What the other blocks wrote is visible to it.
__device__ __forceinline__ bool last_block(std::uint32_t* counter) {
  __shared__ bool last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    const std::uint32_t blocks = gridDim.x * gridDim.y * gridDim.z;
    last = atomicInc(counter, blocks - 1) == blocks - 1;  // wraps to 0 for the next kernel
  }
  __syncthreads();
  if (last) __threadfence();
  return last;
}

__device__ __forceinline__ void stamp_end(const Stamp& stamp) {
  if (stamp.end == nullptr) return;
  __syncthreads();
  if (threadIdx.x != 0) return;
  const std::uint32_t blocks = gridDim.x * gridDim.y * gridDim.z;
  if (atomicInc(stamp.counter, blocks - 1) == blocks - 1) *stamp.end = global_time();
}

__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) v += __shfl_xor_sync(0xffffffffu, v, offset);
  return v;
}
__device__ __forceinline__ float warp_max(float v) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, offset));
  return v;
}

// Over a block of kThreads; every thread gets the result.
__device__ __forceinline__ float block_sum(float v) {
  __shared__ float parts[kWarps];
  v = warp_sum(v);
  __syncthreads();
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = v;
  __syncthreads();
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kWarps; ++i) sum += parts[i];
  return sum;
}
__device__ __forceinline__ float block_max(float v) {
  __shared__ float parts[kWarps];
  v = warp_max(v);
  __syncthreads();
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = v;
  __syncthreads();
  float largest = parts[0];
#pragma unroll
  for (int i = 1; i < kWarps; ++i) largest = fmaxf(largest, parts[i]);
  return largest;
}

// 1 / rms(x) over a block.
__device__ __forceinline__ float inverse_rms(const float* x, int width, float eps) {
  float squares = 0;
  for (int i = threadIdx.x; i < width; i += kThreads) squares = fmaf(x[i], x[i], squares);
  return rsqrtf(block_sum(squares) / static_cast<float>(width) + eps);
}

// Saturates: a float16 has no room beyond.
__device__ __forceinline__ __half narrow(float v) {
  return __float2half_rn(fminf(fmaxf(v, -65504.0f), 65504.0f));
}

__device__ __forceinline__ DeviceMatrix in_blob(const ExpertMatrix& m, std::uint64_t blob) {
  const auto* p = reinterpret_cast<const std::uint8_t*>(blob);
  return {p + m.quants_offset, p + m.scales_offset, m.rows, m.cols, m.type};
}

// What a block of an expert kernel works on; picks of one expert are cut into tiles of `size` rows.
__device__ __forceinline__ Tile tile_of(const ExpertRun& run, int size) {
  if (run.tiles != nullptr) return run.tiles[blockIdx.y];
  const int skipped = static_cast<int>(blockIdx.y) * size;
  return {run.one.blob, run.one.first + skipped, min(size, run.one.rows - skipped)};
}

// Products of Rows rows of a matrix with up to Tokens rows of x, by one warp; every lane gets its share of the sums.
// x[t] are pointers to rows of m.cols floats, 16-byte aligned.
template <int Rows, int Tokens>
__device__ __forceinline__ void rows_times(const DeviceMatrix (&m)[Rows], const int (&row)[Rows],
                                           const float* const (&x)[Tokens], float (&sums)[Rows][Tokens]) {
  const int lane = threadIdx.x % 32, chunks = m[0].cols / kChunk;
#pragma unroll
  for (int r = 0; r < Rows; ++r) {
#pragma unroll
    for (int t = 0; t < Tokens; ++t) sums[r][t] = 0;
  }
  with_decoder(m[0].type, [&](auto decoder) {
#pragma unroll 2  // the next chunk's weights are asked for before this one is used
    for (int chunk = lane; chunk < chunks; chunk += 32) {
      float w[Rows][kChunk];
#pragma unroll
      for (int r = 0; r < Rows; ++r) decoder.read(m[r], row[r], chunk, w[r]);
#pragma unroll
      for (int run = 0; run < kChunk / 4; ++run) {
        const int column = decoder.column_of(chunk, run);
#pragma unroll
        for (int t = 0; t < Tokens; ++t) {
          const float4 v = *reinterpret_cast<const float4*>(x[t] + column);
#pragma unroll
          for (int r = 0; r < Rows; ++r) {
            float s = fmaf(w[r][4 * run], v.x, sums[r][t]);
            s = fmaf(w[r][4 * run + 1], v.y, s);
            s = fmaf(w[r][4 * run + 2], v.z, s);
            sums[r][t] = fmaf(w[r][4 * run + 3], v.w, s);
          }
        }
      }
    }
  });
#pragma unroll
  for (int r = 0; r < Rows; ++r) {
#pragma unroll
    for (int t = 0; t < Tokens; ++t) sums[r][t] = warp_sum(sums[r][t]);
  }
}

}  // namespace expertscope::cuda
