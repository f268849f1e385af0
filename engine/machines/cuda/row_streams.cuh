// Products of matrices that are not quantised (others: row_tiles.cuh) with one row of activations, for decode: a warp
// streams the bytes of its rows through registers, always some chunks ahead of the arithmetic. Device code only.
//
// The activations lie in shared memory in the order in which lanes read them, so that eight neighbouring lanes read
// 128 neighbouring bytes: by column, lanes that read chunks of 32 would all meet in a few banks.
#pragma once

#include "engine/machines/cuda/device_code.cuh"

namespace expertscope::cuda {

// Bytes of shared memory that a staged row of so many columns takes.
__host__ __device__ inline int staged_bytes(int cols) {
  return (cols / kChunk + 7) / 8 * 8 * kChunk * static_cast<int>(sizeof(float));
}

// Lays x, times `norm` if there is one, into shared memory for products with D's matrices, and returns what those are
// to be multiplied with: 1, or 1 / rms(x). By Count threads (`thread` is this one's number); squares are added up in
// `parts`, a float for each of the warps. The caller synchronises before `stage_scale`.
template <typename D, int Count>
__device__ __forceinline__ void stage(const float* x, const float* norm, int cols, int thread, float4* to,
                                      float* parts) {
  const int units = staged_bytes(cols) / 16;
  float squares = 0;
#pragma unroll 4
  for (int i = thread; i < units; i += Count) {
    const int chunk = (i >> 6) * 8 + (i & 7), run = i >> 3 & 7;
    if (chunk * kChunk >= cols) continue;
    const int column = D::column_of(chunk, run);
    float4 v = fresh4(x + column);
    if (norm != nullptr) {
      const float4 n = *reinterpret_cast<const float4*>(norm + column);
      squares = fmaf(v.x, v.x, fmaf(v.y, v.y, fmaf(v.z, v.z, fmaf(v.w, v.w, squares))));
      v.x *= n.x, v.y *= n.y, v.z *= n.z, v.w *= n.w;
    }
    to[i] = v;
  }
  if (norm == nullptr) return;
  squares = warp_sum(squares);
  if (thread % 32 == 0) parts[thread / 32] = squares;
}
__device__ __forceinline__ float stage_scale(const float* norm, const float* parts, int cols, float eps) {
  if (norm == nullptr) return 1;
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kWarps; ++i) sum += parts[i];
  return rsqrtf(sum / static_cast<float>(cols) + eps);
}

// How many chunks of each row are on the way: as many as registers hold beside the arithmetic.
template <typename D, int Rows>
constexpr int depth_of() {
  constexpr int kBytes = static_cast<int>(sizeof(typename D::Raw)) * Rows;
  return kBytes <= 32 ? 4 : kBytes <= 96 ? 2 : 1;
}

// A warp's share of a product: units first, first + stride, … below `end`, a unit being Rows rows, one of each of the
// matrices; row_of(unit, r) is the row of matrix r.
template <typename D, int Rows, typename RowOf>
struct RowStream {
  static constexpr int kDepth = depth_of<D, Rows>();

  __device__ __forceinline__ RowStream(const DeviceMatrix (&matrices)[Rows], RowOf rows, int first, int stride_,
                                       int end_)
      : row_of(rows), unit(first), stride(stride_), end(end_), ask_unit(first) {
#pragma unroll
    for (int r = 0; r < Rows; ++r) m[r] = matrices[r];
    chunks = m[0].cols / kChunk;
    ask_chunk = threadIdx.x % 32;
  }

  __device__ __forceinline__ void ask(int slot) {
    if (ask_unit >= end) return;
    if (ask_chunk < chunks) {
#pragma unroll
      for (int r = 0; r < Rows; ++r) raw[slot][r] = D::load(m[r], row_of(ask_unit, r), ask_chunk);
    }
    ask_chunk += 32;
    if (ask_chunk - static_cast<int>(threadIdx.x % 32) >= chunks) ask_chunk = threadIdx.x % 32, ask_unit += stride;
  }
  // The first chunks are on their way. Touches weights alone, so it may come before the wait for the kernel ahead.
  __device__ __forceinline__ void start() {
#pragma unroll
    for (int d = 0; d < kDepth; ++d) ask(d);
  }
  // Calls done(unit, sums) for each unit, in all lanes; x is what `stage` laid out.
  template <typename Done>
  __device__ __forceinline__ void run(const float4* x, Done done) {
    const int lane = threadIdx.x % 32;
    int chunk = lane;
    float sums[Rows] = {};
    while (unit < end) {
#pragma unroll
      for (int d = 0; d < kDepth; ++d) {
        if (unit >= end) break;
        if (chunk < chunks) multiply(raw[d], chunk, x, sums);
        ask(d);
        chunk += 32;
        if (chunk - lane < chunks) continue;
#pragma unroll
        for (int r = 0; r < Rows; ++r) sums[r] = warp_sum(sums[r]);
        done(unit, sums);
#pragma unroll
        for (int r = 0; r < Rows; ++r) sums[r] = 0;
        chunk = lane;
        unit += stride;
      }
    }
  }

 private:
  static __device__ __forceinline__ void multiply(const typename D::Raw (&chunks_of_rows)[Rows], int chunk,
                                                  const float4* x, float (&sums)[Rows]) {
    float w[Rows][kChunk];
#pragma unroll
    for (int r = 0; r < Rows; ++r) D::decode(chunks_of_rows[r], chunk, w[r]);
    const float4* at = x + (chunk >> 3) * 64 + (chunk & 7);
#pragma unroll
    for (int run = 0; run < kChunk / 4; ++run) {
      const float4 v = at[8 * run];
#pragma unroll
      for (int r = 0; r < Rows; ++r) {
        float s = fmaf(w[r][4 * run], v.x, sums[r]);
        s = fmaf(w[r][4 * run + 1], v.y, s);
        s = fmaf(w[r][4 * run + 2], v.z, s);
        sums[r] = fmaf(w[r][4 * run + 3], v.w, s);
      }
    }
  }

  DeviceMatrix m[Rows];
  RowOf row_of;
  int unit, stride, end, ask_unit, ask_chunk, chunks;
  typename D::Raw raw[kDepth][Rows];
};
template <typename D, int Rows, typename RowOf>
__device__ __forceinline__ RowStream<D, Rows, RowOf> row_stream(const DeviceMatrix (&m)[Rows], RowOf row_of, int first,
                                                                int stride, int end) {
  return {m, row_of, first, stride, end};
}

}  // namespace expertscope::cuda
