// Weight matrices in device memory and how a warp's lane reads 32 weights of a row. Device code only.
//
// A row is read in chunks of 32 weights, one chunk a lane: a whole quantised block of 32, or an eighth of a block of
// 256. The weights of a chunk need not be neighbours: eight runs of four are, and column_of says where each run
// belongs.
//
// Small unsigned integers become floats without a conversion instruction (an eighth of the rate of the others): q
// placed in the top bits of the mantissa of 1.0 reads as 1 + q / 2^bits, and one fused multiply-add removes the 1 and
// scales.
#pragma once

#include <cstdint>

#include <cuda_fp16.h>

#include "engine/machines/cuda/device_matrix.h"

namespace expertscope::cuda {

inline constexpr int kChunk = 32;

namespace decode {

// Bits [first, first + Bits) of a word as 1 + q / 2^Bits.
template <int Bits>
__device__ __forceinline__ float one_plus(std::uint32_t word, int first) {
  constexpr int kTop = 23 - Bits;
  constexpr std::uint32_t kMask = ((1u << Bits) - 1u) << kTop;
  const std::uint32_t moved = first <= kTop ? word << (kTop - first) : word >> (first - kTop);
  return __uint_as_float((moved & kMask) | 0x3F800000u);
}

__device__ __forceinline__ float half_at(const std::uint8_t* p) {
  return __half2float(*reinterpret_cast<const __half*>(p));
}

// Byte i of the twelve bytes of 6-bit scales, held in three words.
__device__ __forceinline__ std::uint32_t scale_byte(const uint4& header, int i) {
  const std::uint32_t word = i < 4 ? header.y : i < 8 ? header.z : header.w;
  return word >> (8 * (i & 3)) & 255u;
}

struct ScaleAndMin {
  float scale, min;
};
// Group j of the eight of a Q4_K or Q5_K block (models.md section 4, from ggml-quants.c).
__device__ __forceinline__ ScaleAndMin k_scale(const uint4& header, int j) {
  const __half2 both = *reinterpret_cast<const __half2*>(&header.x);
  std::uint32_t scale, min;
  if (j < 4) {
    scale = scale_byte(header, j) & 63u;
    min = scale_byte(header, j + 4) & 63u;
  } else {
    scale = (scale_byte(header, j + 4) & 15u) | (scale_byte(header, j - 4) >> 6) << 4;
    min = (scale_byte(header, j + 4) >> 4) | (scale_byte(header, j) >> 6) << 4;
  }
  return {__low2float(both) * static_cast<float>(scale), __high2float(both) * static_cast<float>(min)};
}

}  // namespace decode

template <TensorType Type>
struct Decoder;

// A chunk of 32 neighbours.
struct Neighbours {
  static __device__ __forceinline__ int column_of(int chunk, int run) { return chunk * kChunk + 4 * run; }
};

template <>
struct Decoder<TensorType::f32> : Neighbours {
  static __device__ __forceinline__ void read(const DeviceMatrix& m, int row, int chunk, float (&w)[kChunk]) {
    const float4* p =
        reinterpret_cast<const float4*>(m.quants) + (static_cast<std::int64_t>(row) * m.cols + chunk * kChunk) / 4;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const float4 v = __ldg(p + i);
      w[4 * i] = v.x, w[4 * i + 1] = v.y, w[4 * i + 2] = v.z, w[4 * i + 3] = v.w;
    }
  }
};

template <>
struct Decoder<TensorType::f16> : Neighbours {
  static __device__ __forceinline__ void read(const DeviceMatrix& m, int row, int chunk, float (&w)[kChunk]) {
    const uint4* p =
        reinterpret_cast<const uint4*>(m.quants) + (static_cast<std::int64_t>(row) * m.cols + chunk * kChunk) / 8;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint4 v = __ldg(p + i);
      const std::uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const float2 pair = __half22float2(*reinterpret_cast<const __half2*>(&words[k]));
        w[8 * i + 2 * k] = pair.x, w[8 * i + 2 * k + 1] = pair.y;
      }
    }
  }
};

template <>
struct Decoder<TensorType::bf16> : Neighbours {
  static __device__ __forceinline__ void read(const DeviceMatrix& m, int row, int chunk, float (&w)[kChunk]) {
    const uint4* p =
        reinterpret_cast<const uint4*>(m.quants) + (static_cast<std::int64_t>(row) * m.cols + chunk * kChunk) / 8;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint4 v = __ldg(p + i);
      const std::uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        w[8 * i + 2 * k] = __uint_as_float(words[k] << 16);
        w[8 * i + 2 * k + 1] = __uint_as_float(words[k] & 0xFFFF0000u);
      }
    }
  }
};

template <>
struct Decoder<TensorType::q8_0> : Neighbours {
  static __device__ __forceinline__ void read(const DeviceMatrix& m, int row, int chunk, float (&w)[kChunk]) {
    const std::int64_t block = static_cast<std::int64_t>(row) * (m.cols / kChunk) + chunk;
    const float d = decode::half_at(m.scales + block * 2);
    const float scale = 256 * d, offset = -384 * d;  // from 1 + (q + 128) / 256
    const uint4* p = reinterpret_cast<const uint4*>(m.quants) + block * 2;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint4 v = __ldg(p + i);
      const std::uint32_t words[4] = {v.x ^ 0x80808080u, v.y ^ 0x80808080u, v.z ^ 0x80808080u, v.w ^ 0x80808080u};
#pragma unroll
      for (int k = 0; k < 16; ++k) {
        w[16 * i + k] = fmaf(decode::one_plus<8>(words[k / 4], 8 * (k % 4)), scale, offset);
      }
    }
  }
};

template <>
struct Decoder<TensorType::q4_0> : Neighbours {
  static __device__ __forceinline__ void read(const DeviceMatrix& m, int row, int chunk, float (&w)[kChunk]) {
    const std::int64_t block = static_cast<std::int64_t>(row) * (m.cols / kChunk) + chunk;
    const float d = decode::half_at(m.scales + block * 2);
    const float scale = 16 * d, offset = -24 * d;
    const uint4 v = __ldg(reinterpret_cast<const uint4*>(m.quants) + block);
    const std::uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int k = 0; k < 16; ++k) {
      w[k] = fmaf(decode::one_plus<4>(words[k / 4], 8 * (k % 4)), scale, offset);
      w[16 + k] = fmaf(decode::one_plus<4>(words[k / 4], 8 * (k % 4) + 4), scale, offset);
    }
  }
};

// Chunk c of a block: sixteen bytes of quants, whose low nibbles are weights of group 2 (c / 2) and whose high nibbles
// are weights of the group after it.
struct KChunkOf64 {
  static __device__ __forceinline__ int column_of(int chunk, int run) {
    const int c = chunk & 7;
    return (chunk >> 3) * 256 + (c >> 1) * 64 + (run >> 2) * 32 + (c & 1) * 16 + (run & 3) * 4;
  }
};

template <>
struct Decoder<TensorType::q4_k> : KChunkOf64 {
  static __device__ __forceinline__ void read(const DeviceMatrix& m, int row, int chunk, float (&w)[kChunk]) {
    const int c = chunk & 7;
    const uint4* block = reinterpret_cast<const uint4*>(m.quants) +
                         (static_cast<std::int64_t>(row) * (m.cols >> 8) + (chunk >> 3)) * 9;  // 144 bytes
    const uint4 header = __ldg(block);
    const uint4 v = __ldg(block + 1 + c);
    const decode::ScaleAndMin low = decode::k_scale(header, c & ~1), high = decode::k_scale(header, c | 1);
    const float low_scale = 16 * low.scale, low_offset = -low_scale - low.min;
    const float high_scale = 16 * high.scale, high_offset = -high_scale - high.min;
    const std::uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int k = 0; k < 16; ++k) {
      w[k] = fmaf(decode::one_plus<4>(words[k / 4], 8 * (k % 4)), low_scale, low_offset);
      w[16 + k] = fmaf(decode::one_plus<4>(words[k / 4], 8 * (k % 4) + 4), high_scale, high_offset);
    }
  }
};

template <>
struct Decoder<TensorType::q5_k> : KChunkOf64 {
  static __device__ __forceinline__ void read(const DeviceMatrix& m, int row, int chunk, float (&w)[kChunk]) {
    const int c = chunk & 7;
    const uint4* block = reinterpret_cast<const uint4*>(m.quants) +
                         (static_cast<std::int64_t>(row) * (m.cols >> 8) + (chunk >> 3)) * 11;  // 176 bytes
    const uint4 header = __ldg(block);
    const uint4 fifth = __ldg(block + 1 + (c & 1));
    const uint4 v = __ldg(block + 3 + c);
    const decode::ScaleAndMin low = decode::k_scale(header, c & ~1), high = decode::k_scale(header, c | 1);
    const float low_scale = 32 * low.scale, low_offset = -low_scale - low.min;
    const float high_scale = 32 * high.scale, high_offset = -high_scale - high.min;
    const std::uint32_t words[4] = {v.x, v.y, v.z, v.w};
    const std::uint32_t bits[4] = {fifth.x, fifth.y, fifth.z, fifth.w};
    const int first_bit = c & ~1;
#pragma unroll
    for (int k = 0; k < 16; ++k) {
      const std::uint32_t quants = words[k / 4] >> (8 * (k % 4)) & 255u;
      const std::uint32_t tops = bits[k / 4] >> (8 * (k % 4) + first_bit);
      w[k] = fmaf(decode::one_plus<5>((quants & 15u) | (tops & 1u) << 4, 0), low_scale, low_offset);
      w[16 + k] = fmaf(decode::one_plus<5>(quants >> 4 | (tops & 2u) << 3, 0), high_scale, high_offset);
    }
  }
};

// Chunk c of a block: eight neighbours of each of the four quarters of a half block.
template <>
struct Decoder<TensorType::q6_k> {
  static __device__ __forceinline__ int column_of(int chunk, int run) {
    const int c = chunk & 7;
    return (chunk >> 3) * 256 + (c >> 2) * 128 + (run >> 1) * 32 + (c & 3) * 8 + (run & 1) * 4;
  }
  static __device__ __forceinline__ void read(const DeviceMatrix& m, int row, int chunk, float (&w)[kChunk]) {
    const int c = chunk & 7, half = c >> 2, part = c & 3;
    const std::int64_t index = static_cast<std::int64_t>(row) * (m.cols >> 8) + (chunk >> 3);
    const std::uint8_t* block = m.quants + index * 208;  // ql[128] qh[64] scales[16]
    const uint2 low = __ldg(reinterpret_cast<const uint2*>(block + half * 64 + part * 8));
    const uint2 next = __ldg(reinterpret_cast<const uint2*>(block + half * 64 + 32 + part * 8));
    const uint2 top = __ldg(reinterpret_cast<const uint2*>(block + 128 + half * 32 + part * 8));
    const uint2 scales = __ldg(reinterpret_cast<const uint2*>(block + 192 + half * 8));
    const float d = decode::half_at(m.scales + index * 2);
#pragma unroll
    for (int quarter = 0; quarter < 4; ++quarter) {
      const int at = 2 * quarter + (part >> 1);
      const std::uint32_t word = at < 4 ? scales.x : scales.y;
      const float scale = d * static_cast<float>(static_cast<std::int8_t>(word >> (8 * (at & 3))));
#pragma unroll
      for (int k = 0; k < 8; ++k) {
        const int shift = 8 * (k % 4);
        const std::uint32_t quants = (quarter % 2 == 0 ? (k < 4 ? low.x : low.y) : (k < 4 ? next.x : next.y)) >> shift;
        const std::uint32_t tops = (k < 4 ? top.x : top.y) >> (shift + 2 * quarter);
        const std::uint32_t q = (quarter < 2 ? quants & 15u : quants >> 4 & 15u) | (tops & 3u) << 4;
        w[8 * quarter + k] = fmaf(decode::one_plus<6>(q, 0), 64 * scale, -96 * scale);
      }
    }
  }
};

// Calls `call` with the matrix's decoder. All lanes of a block take the same branch.
template <typename Call>
__device__ __forceinline__ void with_decoder(TensorType type, Call&& call) {
  switch (type) {
    case TensorType::f32:
      return call(Decoder<TensorType::f32>());
    case TensorType::f16:
      return call(Decoder<TensorType::f16>());
    case TensorType::bf16:
      return call(Decoder<TensorType::bf16>());
    case TensorType::q8_0:
      return call(Decoder<TensorType::q8_0>());
    case TensorType::q4_0:
      return call(Decoder<TensorType::q4_0>());
    case TensorType::q4_k:
      return call(Decoder<TensorType::q4_k>());
    case TensorType::q5_k:
      return call(Decoder<TensorType::q5_k>());
    case TensorType::q6_k:
      return call(Decoder<TensorType::q6_k>());
  }
}

}  // namespace expertscope::cuda
