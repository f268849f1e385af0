// Weight matrices in device memory and how a warp's lane reads 32 weights of a row. Device code only.
//
// A row is read in chunks of 32 weights, one chunk a lane: a whole quantised block of 32, or an eighth of a block of
// 256. The weights of a chunk need not be neighbours: eight runs of four are, and column_of says where each run
// belongs.
//
// Small unsigned integers become floats without a conversion instruction (an eighth of the rate of the others): q
// placed in the top bits of the mantissa of 1.0 reads as 1 + q / 2^bits, and one fused multiply-add removes the 1 and
// scales.
//
// Reading is two steps, so that a warp can have the bytes of its next chunks on the way while it multiplies: load asks
// for a chunk's bytes as they are (Raw), decode makes weights of them.
#pragma once

#include <cstdint>

#include <cuda_fp16.h>

#include "engine/machines/cuda/device_matrix.h"

namespace expertscope::cuda {

inline constexpr int kChunk = 32;

namespace bits {

// Bits [first, first + Bits) of a word as 1 + q / 2^Bits.
template <int Bits>
__device__ __forceinline__ float one_plus(std::uint32_t word, int first) {
  constexpr int kTop = 23 - Bits;
  constexpr std::uint32_t kMask = ((1u << Bits) - 1u) << kTop;
  const std::uint32_t moved = first <= kTop ? word << (kTop - first) : word >> (first - kTop);
  return __uint_as_float((moved & kMask) | 0x3F800000u);
}

__device__ __forceinline__ float as_float(std::uint32_t half_bits) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(half_bits)));
}

// Loads that stay where they are written: before a wait for the kernel ahead, and all of a round at once.
__device__ __forceinline__ uint4 load16(const void* p) {
  uint4 v;
  asm volatile("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
  return v;
}
__device__ __forceinline__ uint2 load8(const void* p) {
  uint2 v;
  asm volatile("ld.global.nc.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(p));
  return v;
}
__device__ __forceinline__ std::uint32_t load2(const void* p) {
  unsigned short v;
  asm volatile("ld.global.nc.u16 %0, [%1];" : "=h"(v) : "l"(p));
  return v;
}

// Byte i of a word as a float, without the conversion instruction.
__device__ __forceinline__ float byte_at(std::uint32_t word, int i) {
  return __uint_as_float(__byte_perm(word, 0x4B000000u, 0x7540u + static_cast<std::uint32_t>(i))) - 8388608.0f;
}

struct ScalesAndMins {
  float scale[2], min[2];
};
// Groups j and j + 1 (j even) of the eight of a Q4_K or Q5_K block (models.md section 4, from ggml-quants.c): pairs of
// 6-bit numbers, those of the first four groups in bytes of their own, of the others in what is left of twelve bytes.
__device__ __forceinline__ ScalesAndMins k_scales(const uint4& header, int j) {
  const __half2 both = *reinterpret_cast<const __half2*>(&header.x);
  const float d = __low2float(both), least = __high2float(both);
  const int shift = 8 * (j & 3);
  const std::uint32_t first = header.y >> shift, second = header.z >> shift, third = header.w >> shift;
  const bool own = j < 4;
  const std::uint32_t scales = own ? first & 0x3F3Fu : (third & 0x0F0Fu) | (first >> 2 & 0x3030u);
  const std::uint32_t mins = own ? second & 0x3F3Fu : (third >> 4 & 0x0F0Fu) | (second >> 2 & 0x3030u);
  return {{d * byte_at(scales, 0), d * byte_at(scales, 1)}, {least * byte_at(mins, 0), least * byte_at(mins, 1)}};
}

}  // namespace bits

template <TensorType Type>
struct Decoder;

// A chunk of 32 neighbours.
struct Neighbours {
  static __device__ __forceinline__ int column_of(int chunk, int run) { return chunk * kChunk + 4 * run; }
};

template <>
struct Decoder<TensorType::f32> : Neighbours {
  struct Raw {
    uint4 v[8];
  };
  static __device__ __forceinline__ Raw load(const DeviceMatrix& m, int row, int chunk) {
    const uint4* p =
        reinterpret_cast<const uint4*>(m.quants) + (static_cast<std::int64_t>(row) * m.cols + chunk * kChunk) / 4;
    Raw raw;
#pragma unroll
    for (int i = 0; i < 8; ++i) raw.v[i] = bits::load16(p + i);
    return raw;
  }
  static __device__ __forceinline__ void decode(const Raw& raw, int, float (&w)[kChunk]) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      w[4 * i] = __uint_as_float(raw.v[i].x), w[4 * i + 1] = __uint_as_float(raw.v[i].y);
      w[4 * i + 2] = __uint_as_float(raw.v[i].z), w[4 * i + 3] = __uint_as_float(raw.v[i].w);
    }
  }
  static __device__ __forceinline__ void read(const DeviceMatrix& m, int row, int chunk, float (&w)[kChunk]) {
    decode(load(m, row, chunk), chunk, w);
  }
};

template <>
struct Decoder<TensorType::f16> : Neighbours {
  struct Raw {
    uint4 v[4];
  };
  static __device__ __forceinline__ Raw load(const DeviceMatrix& m, int row, int chunk) {
    const uint4* p =
        reinterpret_cast<const uint4*>(m.quants) + (static_cast<std::int64_t>(row) * m.cols + chunk * kChunk) / 8;
    return {{bits::load16(p), bits::load16(p + 1), bits::load16(p + 2), bits::load16(p + 3)}};
  }
  static __device__ __forceinline__ void decode(const Raw& raw, int, float (&w)[kChunk]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint4 v = raw.v[i];
      const std::uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const float2 pair = __half22float2(*reinterpret_cast<const __half2*>(&words[k]));
        w[8 * i + 2 * k] = pair.x, w[8 * i + 2 * k + 1] = pair.y;
      }
    }
  }
  static __device__ __forceinline__ void read(const DeviceMatrix& m, int row, int chunk, float (&w)[kChunk]) {
    decode(load(m, row, chunk), chunk, w);
  }
};

template <>
struct Decoder<TensorType::bf16> : Neighbours {
  struct Raw {
    uint4 v[4];
  };
  static __device__ __forceinline__ Raw load(const DeviceMatrix& m, int row, int chunk) {
    const uint4* p =
        reinterpret_cast<const uint4*>(m.quants) + (static_cast<std::int64_t>(row) * m.cols + chunk * kChunk) / 8;
    return {{bits::load16(p), bits::load16(p + 1), bits::load16(p + 2), bits::load16(p + 3)}};
  }
  static __device__ __forceinline__ void decode(const Raw& raw, int, float (&w)[kChunk]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint4 v = raw.v[i];
      const std::uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        w[8 * i + 2 * k] = __uint_as_float(words[k] << 16);
        w[8 * i + 2 * k + 1] = __uint_as_float(words[k] & 0xFFFF0000u);
      }
    }
  }
  static __device__ __forceinline__ void read(const DeviceMatrix& m, int row, int chunk, float (&w)[kChunk]) {
    decode(load(m, row, chunk), chunk, w);
  }
};

template <>
struct Decoder<TensorType::q8_0> : Neighbours {
  struct Raw {
    uint4 v[2];
    std::uint32_t d;
  };
  static __device__ __forceinline__ Raw load(const DeviceMatrix& m, int row, int chunk) {
    const std::int64_t block = static_cast<std::int64_t>(row) * (m.cols / kChunk) + chunk;
    const uint4* p = reinterpret_cast<const uint4*>(m.quants) + block * 2;
    return {{bits::load16(p), bits::load16(p + 1)}, bits::load2(m.scales + block * 2)};
  }
  static __device__ __forceinline__ void decode(const Raw& raw, int, float (&w)[kChunk]) {
    const float d = bits::as_float(raw.d);
    const float scale = 256 * d, offset = -384 * d;  // from 1 + (q + 128) / 256
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint4 v = raw.v[i];
      const std::uint32_t words[4] = {v.x ^ 0x80808080u, v.y ^ 0x80808080u, v.z ^ 0x80808080u, v.w ^ 0x80808080u};
#pragma unroll
      for (int k = 0; k < 16; ++k) {
        w[16 * i + k] = fmaf(bits::one_plus<8>(words[k / 4], 8 * (k % 4)), scale, offset);
      }
    }
  }
  static __device__ __forceinline__ void read(const DeviceMatrix& m, int row, int chunk, float (&w)[kChunk]) {
    decode(load(m, row, chunk), chunk, w);
  }
};

template <>
struct Decoder<TensorType::q4_0> : Neighbours {
  struct Raw {
    uint4 v;
    std::uint32_t d;
  };
  static __device__ __forceinline__ Raw load(const DeviceMatrix& m, int row, int chunk) {
    const std::int64_t block = static_cast<std::int64_t>(row) * (m.cols / kChunk) + chunk;
    return {bits::load16(reinterpret_cast<const uint4*>(m.quants) + block), bits::load2(m.scales + block * 2)};
  }
  static __device__ __forceinline__ void decode(const Raw& raw, int, float (&w)[kChunk]) {
    const float d = bits::as_float(raw.d);
    const float scale = 16 * d, offset = -24 * d;
    const std::uint32_t words[4] = {raw.v.x, raw.v.y, raw.v.z, raw.v.w};
#pragma unroll
    for (int k = 0; k < 16; ++k) {
      w[k] = fmaf(bits::one_plus<4>(words[k / 4], 8 * (k % 4)), scale, offset);
      w[16 + k] = fmaf(bits::one_plus<4>(words[k / 4], 8 * (k % 4) + 4), scale, offset);
    }
  }
  static __device__ __forceinline__ void read(const DeviceMatrix& m, int row, int chunk, float (&w)[kChunk]) {
    decode(load(m, row, chunk), chunk, w);
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
  struct Raw {
    uint4 header, v;
  };
  static __device__ __forceinline__ Raw load(const DeviceMatrix& m, int row, int chunk) {
    const uint4* block = reinterpret_cast<const uint4*>(m.quants) +
                         (static_cast<std::int64_t>(row) * (m.cols >> 8) + (chunk >> 3)) * 9;  // 144 bytes
    return {bits::load16(block), bits::load16(block + 1 + (chunk & 7))};
  }
  static __device__ __forceinline__ void decode(const Raw& raw, int chunk, float (&w)[kChunk]) {
    const int c = chunk & 7;
    const bits::ScalesAndMins groups = bits::k_scales(raw.header, c & ~1);
    const float low_scale = 16 * groups.scale[0], low_offset = -low_scale - groups.min[0];
    const float high_scale = 16 * groups.scale[1], high_offset = -high_scale - groups.min[1];
    const std::uint32_t words[4] = {raw.v.x, raw.v.y, raw.v.z, raw.v.w};
#pragma unroll
    for (int k = 0; k < 16; ++k) {
      w[k] = fmaf(bits::one_plus<4>(words[k / 4], 8 * (k % 4)), low_scale, low_offset);
      w[16 + k] = fmaf(bits::one_plus<4>(words[k / 4], 8 * (k % 4) + 4), high_scale, high_offset);
    }
  }
  static __device__ __forceinline__ void read(const DeviceMatrix& m, int row, int chunk, float (&w)[kChunk]) {
    decode(load(m, row, chunk), chunk, w);
  }
};

template <>
struct Decoder<TensorType::q5_k> : KChunkOf64 {
  struct Raw {
    uint4 header, fifth, v;
  };
  static __device__ __forceinline__ Raw load(const DeviceMatrix& m, int row, int chunk) {
    const int c = chunk & 7;
    const uint4* block = reinterpret_cast<const uint4*>(m.quants) +
                         (static_cast<std::int64_t>(row) * (m.cols >> 8) + (chunk >> 3)) * 11;  // 176 bytes
    return {bits::load16(block), bits::load16(block + 1 + (c & 1)), bits::load16(block + 3 + c)};
  }
  static __device__ __forceinline__ void decode(const Raw& raw, int chunk, float (&w)[kChunk]) {
    const int c = chunk & 7;
    const bits::ScalesAndMins groups = bits::k_scales(raw.header, c & ~1);
    const float low_scale = 32 * groups.scale[0], low_offset = -low_scale - groups.min[0];
    const float high_scale = 32 * groups.scale[1], high_offset = -high_scale - groups.min[1];
    const std::uint32_t words[4] = {raw.v.x, raw.v.y, raw.v.z, raw.v.w};
    const std::uint32_t fifths[4] = {raw.fifth.x, raw.fifth.y, raw.fifth.z, raw.fifth.w};
    const int first_bit = c & ~1;
#pragma unroll
    for (int k = 0; k < 16; ++k) {
      const std::uint32_t quants = words[k / 4] >> (8 * (k % 4)) & 255u;
      const std::uint32_t tops = fifths[k / 4] >> (8 * (k % 4) + first_bit);
      w[k] = fmaf(bits::one_plus<5>((quants & 15u) | (tops & 1u) << 4, 0), low_scale, low_offset);
      w[16 + k] = fmaf(bits::one_plus<5>(quants >> 4 | (tops & 2u) << 3, 0), high_scale, high_offset);
    }
  }
  static __device__ __forceinline__ void read(const DeviceMatrix& m, int row, int chunk, float (&w)[kChunk]) {
    decode(load(m, row, chunk), chunk, w);
  }
};

// Chunk c of a block: eight neighbours of each of the four quarters of a half block.
template <>
struct Decoder<TensorType::q6_k> {
  static __device__ __forceinline__ int column_of(int chunk, int run) {
    const int c = chunk & 7;
    return (chunk >> 3) * 256 + (c >> 2) * 128 + (run >> 1) * 32 + (c & 3) * 8 + (run & 1) * 4;
  }
  struct Raw {
    uint2 low, next, top, scales;
    std::uint32_t d;
  };
  static __device__ __forceinline__ Raw load(const DeviceMatrix& m, int row, int chunk) {
    const int c = chunk & 7, half = c >> 2, part = c & 3;
    const std::int64_t index = static_cast<std::int64_t>(row) * (m.cols >> 8) + (chunk >> 3);
    const std::uint8_t* block = m.quants + index * 208;  // ql[128] qh[64] scales[16]
    return {bits::load8(block + half * 64 + part * 8), bits::load8(block + half * 64 + 32 + part * 8),
            bits::load8(block + 128 + half * 32 + part * 8), bits::load8(block + 192 + half * 8),
            bits::load2(m.scales + index * 2)};
  }
  static __device__ __forceinline__ void decode(const Raw& raw, int chunk, float (&w)[kChunk]) {
    const int part = chunk & 3;
    const float d = bits::as_float(raw.d);
#pragma unroll
    for (int quarter = 0; quarter < 4; ++quarter) {
      const int at = 2 * quarter + (part >> 1);
      const std::uint32_t word = at < 4 ? raw.scales.x : raw.scales.y;
      const float scale = d * static_cast<float>(static_cast<std::int8_t>(word >> (8 * (at & 3))));
#pragma unroll
      for (int k = 0; k < 8; ++k) {
        const int shift = 8 * (k % 4);
        const uint2 both = quarter % 2 == 0 ? raw.low : raw.next;
        const std::uint32_t quants = (k < 4 ? both.x : both.y) >> shift;
        const std::uint32_t tops = (k < 4 ? raw.top.x : raw.top.y) >> (shift + 2 * quarter);
        const std::uint32_t q = (quarter < 2 ? quants & 15u : quants >> 4 & 15u) | (tops & 3u) << 4;
        w[8 * quarter + k] = fmaf(bits::one_plus<6>(q, 0), 64 * scale, -96 * scale);
      }
    }
  }
  static __device__ __forceinline__ void read(const DeviceMatrix& m, int row, int chunk, float (&w)[kChunk]) {
    decode(load(m, row, chunk), chunk, w);
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

// The same for launches: a kernel of its own for each type has the registers that the type needs.
template <typename Call>
void for_type(TensorType type, Call&& call) {
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
