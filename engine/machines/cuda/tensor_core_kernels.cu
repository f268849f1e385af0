// Products of many tokens: weights are multiplied out to float16 in shared memory and meet float16 activations in the
// tensor cores, sums are float32. One launch serves all experts of a layer that are there (grouped), one a dense
// matrix.
#include <mma.h>

#include "engine/machines/cuda/device.h"
#include "engine/machines/cuda/device_code.cuh"

namespace expertscope::cuda {
namespace {

namespace wmma = nvcuda::wmma;

// A block makes kTileRows rows of W times kLargeTile tokens, kDepth columns at a time. Of a gated product half of the
// rows are gate's and half are up's.
constexpr int kTileRows = 128, kDepth = 128;
constexpr int kPitch = kDepth + 8;         // halves; keeps rows in different banks
constexpr int kSumPitch = kLargeTile + 4;  // floats
constexpr int kWeightBytes = kTileRows * kPitch * 2, kTokenBytes = kLargeTile * kPitch * 2;
constexpr int kSumBytes = kTileRows * kSumPitch * 4;
constexpr int kSharedBytes = (kWeightBytes > kSumBytes ? kWeightBytes : kSumBytes) + kTokenBytes;
constexpr int kChunksOfDepth = kDepth / kChunk;

using Sum = wmma::fragment<wmma::accumulator, 16, 16, 16, float>;

// Columns [column, column + kDepth) of `count` rows of a matrix from `row`, as halves; zeros beyond the matrix.
__device__ __forceinline__ void load_weights(const DeviceMatrix& m, int row, int count, int column, __half* to) {
  with_decoder(m.type, [&](auto decoder) {
    for (int unit = threadIdx.x; unit < count * kChunksOfDepth; unit += kThreads) {
      const int r = unit / kChunksOfDepth, chunk = column / kChunk + unit % kChunksOfDepth;
      float w[kChunk];
      if (row + r < m.rows && chunk < m.cols / kChunk) {
        decoder.read(m, row + r, chunk, w);
      } else {
#pragma unroll
        for (int i = 0; i < kChunk; ++i) w[i] = 0;
      }
#pragma unroll
      for (int run = 0; run < kChunk / 4; ++run) {
        __half2* at = reinterpret_cast<__half2*>(to + r * kPitch + decoder.column_of(chunk, run) - column);
        at[0] = __floats2half2_rn(w[4 * run], w[4 * run + 1]);
        at[1] = __floats2half2_rn(w[4 * run + 2], w[4 * run + 3]);
      }
    }
  });
}

// The same columns of the tile's tokens. `row_of(i)` is the activation row of token i.
template <typename RowOf>
__device__ __forceinline__ void load_tokens(const __half* x, int cols, int count, int column, RowOf row_of,
                                            __half* to) {
  for (int unit = threadIdx.x; unit < kLargeTile * (kDepth / 8); unit += kThreads) {
    const int t = unit / (kDepth / 8), c = unit % (kDepth / 8) * 8;
    uint4 v = make_uint4(0, 0, 0, 0);
    if (t < count && column + c < cols)
      v = *reinterpret_cast<const uint4*>(x + static_cast<std::int64_t>(row_of(t)) * cols + column + c);
    *reinterpret_cast<uint4*>(to + t * kPitch + c) = v;
  }
}

// Each of eight warps makes 32 rows times 32 tokens.
__device__ __forceinline__ void multiply_tile(const __half* weights, const __half* tokens, Sum (&sums)[2][2]) {
  const int warp = threadIdx.x / 32, row = warp % 4 * 32, token = warp / 4 * 32;
#pragma unroll
  for (int k = 0; k < kDepth; k += 16) {
    wmma::fragment<wmma::matrix_a, 16, 16, 16, __half, wmma::row_major> a[2];
    wmma::fragment<wmma::matrix_b, 16, 16, 16, __half, wmma::col_major> b[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      wmma::load_matrix_sync(a[i], weights + (row + 16 * i) * kPitch + k, kPitch);
      wmma::load_matrix_sync(b[i], tokens + (token + 16 * i) * kPitch + k, kPitch);
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int j = 0; j < 2; ++j) wmma::mma_sync(sums[i][j], a[i], b[j], sums[i][j]);
    }
  }
}

__device__ __forceinline__ void store_sums(const Sum (&sums)[2][2], float* to) {
  const int warp = threadIdx.x / 32, row = warp % 4 * 32, token = warp / 4 * 32;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      wmma::store_matrix_sync(to + (row + 16 * i) * kSumPitch + token + 16 * j, sums[i][j], kSumPitch,
                              wmma::mem_row_major);
    }
  }
}

struct Shared {
  __half* weights;
  __half* tokens;
  float* sums;  // over the weights, when they are done with
};
__device__ __forceinline__ Shared shared_memory() {
  extern __shared__ __align__(16) std::uint8_t memory[];
  constexpr int kFirst = kSharedBytes - kTokenBytes;
  return {reinterpret_cast<__half*>(memory), reinterpret_cast<__half*>(memory + kFirst),
          reinterpret_cast<float*>(memory)};
}

// The whole depth; `load` fills the weights of one stretch of columns.
template <typename Load, typename RowOf>
__device__ __forceinline__ void tile_product(const Shared& s, const __half* x, int cols, int count, Load load,
                                             RowOf row_of) {
  Sum sums[2][2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int j = 0; j < 2; ++j) wmma::fill_fragment(sums[i][j], 0.0f);
  }
  for (int column = 0; column < cols; column += kDepth) {
    load(column);
    load_tokens(x, cols, count, column, row_of, s.tokens);
    __syncthreads();
    multiply_tile(s.weights, s.tokens, sums);
    __syncthreads();
  }
  store_sums(sums, s.sums);
  __syncthreads();
}

__global__ void __launch_bounds__(kThreads, 2) dense_kernel(LargeProduct p, int tokens, Stamp stamp) {
  stamp_start(stamp);
  const Shared s = shared_memory();
  const int row = blockIdx.x * kTileRows, first = blockIdx.y * kLargeTile;
  const int count = min(kLargeTile, tokens - first);
  tile_product(
      s, p.x, p.w.cols, count, [&](int column) { load_weights(p.w, row, kTileRows, column, s.weights); },
      [&](int t) { return first + t; });
  for (int i = threadIdx.x; i < kTileRows * kLargeTile; i += kThreads) {
    const int r = i % kTileRows, t = i / kTileRows;
    if (t >= count || row + r >= p.w.rows) continue;
    float& y = p.y[static_cast<std::int64_t>(first + t) * p.w.rows + row + r];
    y = p.add ? y + s.sums[r * kSumPitch + t] : s.sums[r * kSumPitch + t];
  }
  stamp_end(stamp);
}

__global__ void __launch_bounds__(kThreads, 2) gate_up_kernel(ExpertRun run, Stamp stamp) {
  stamp_start(stamp);
  const Shared s = shared_memory();
  const Tile tile = tile_of(run, kLargeTile);
  const DeviceMatrix gate = in_blob(run.layout.gate, tile.blob), up = in_blob(run.layout.up, tile.blob);
  constexpr int kHalf = kTileRows / 2;
  const int row = blockIdx.x * kHalf;
  tile_product(
      s, run.input_half, gate.cols, tile.rows,
      [&](int column) {
        load_weights(gate, row, kHalf, column, s.weights);
        load_weights(up, row, kHalf, column, s.weights + kHalf * kPitch);
      },
      [&](int t) { return run.picks[tile.first + t].token; });
  for (int i = threadIdx.x; i < kHalf * kLargeTile; i += kThreads) {
    const int r = i % kHalf, t = i / kHalf;
    if (t >= tile.rows || row + r >= gate.rows) continue;
    const float g = s.sums[r * kSumPitch + t], u = s.sums[(r + kHalf) * kSumPitch + t];
    run.hidden_half[static_cast<std::int64_t>(tile.first + t) * gate.rows + row + r] = narrow(g / (1 + __expf(-g)) * u);
  }
}

__global__ void __launch_bounds__(kThreads, 2) down_kernel(ExpertRun run, Stamp stamp) {
  const Shared s = shared_memory();
  const Tile tile = tile_of(run, kLargeTile);
  const DeviceMatrix down = in_blob(run.layout.down, tile.blob);
  const int row = blockIdx.x * kTileRows;
  tile_product(
      s, run.hidden_half, down.cols, tile.rows,
      [&](int column) { load_weights(down, row, kTileRows, column, s.weights); },
      [&](int t) { return tile.first + t; });
  for (int i = threadIdx.x; i < kTileRows * kLargeTile; i += kThreads) {
    const int r = i % kTileRows, t = i / kTileRows;
    if (t >= tile.rows || row + r >= down.rows) continue;
    run.output[static_cast<std::int64_t>(run.picks[tile.first + t].output) * down.rows + row + r] =
        s.sums[r * kSumPitch + t];
  }
  stamp_end(stamp);
}

// Once: a prompt launches these thousands of times.
void allow_shared() {
  static const bool done = [] {
    const auto allow = [](auto kernel) {
      check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes),
            "asking for shared memory");
    };
    allow(dense_kernel);
    allow(gate_up_kernel);
    allow(down_kernel);
    return true;
  }();
  (void)done;
}

unsigned tiles_of(int rows, int size) {
  return static_cast<unsigned>((rows + size - 1) / size);
}

}  // namespace

void multiply_large(const LargeProduct& p, int tokens, Stamp stamp, cudaStream_t stream) {
  allow_shared();
  dense_kernel<<<dim3(tiles_of(p.w.rows, kTileRows), tiles_of(tokens, kLargeTile)), kThreads, kSharedBytes, stream>>>(
      p, tokens, stamp);
  check_launch("queueing a product");
}

void run_experts_large(const ExpertRun& run, Stamp stamp, cudaStream_t stream) {
  allow_shared();
  const unsigned tiles =
      run.tiles != nullptr ? static_cast<unsigned>(run.tile_count) : tiles_of(run.one.rows, kLargeTile);
  gate_up_kernel<<<dim3(tiles_of(run.layout.gate.rows, kTileRows / 2), tiles), kThreads, kSharedBytes, stream>>>(run,
                                                                                                                 stamp);
  down_kernel<<<dim3(tiles_of(run.layout.down.rows, kTileRows), tiles), kThreads, kSharedBytes, stream>>>(run, stamp);
  check_launch("queueing experts");
}

}  // namespace expertscope::cuda
