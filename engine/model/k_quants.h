// Blocks of the K-quants, 256 values with scales of their own inside, taken apart into what a product needs. Included
// by kernel sources only.
//
// A value is factor * quant (Q6_K) or factor * quant - minimum (Q4_K, Q5_K). factor = d * scale, minimum = dmin * m and
// factor * quant are exact in float32, so a value is rounded once at most, and whoever computes it by a fused
// multiply-add or by a product and a difference gets the same bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "engine/model/simd.h"
#include "engine/model/tensor_type.h"

namespace expertscope {

inline constexpr int kKBlock = 256;
inline constexpr int kKStep = 64;  // columns that kernels take at a time

constexpr bool is_k_quant(TensorType type) {
  return block_values(type) == kKBlock;
}

struct KBlock {
  alignas(32) std::int8_t quants[kKBlock];  // not for Q4_K, whose nibbles are as quickly taken from where they lie
  alignas(32) float factors[16];            // one per 32 values, for Q6_K one per 16
  alignas(32) float minima[8];              // one per 32 values, not for Q6_K
  const std::byte* nibbles;                 // Q4_K: 32 bytes for 64 values, the first 32 in their lower halves
};

namespace k_quants {

namespace hn = simd::hn;
using Bytes = hn::FixedTag<std::uint8_t, 32>;
using Pairs = hn::FixedTag<std::uint16_t, 16>;
using ByteVec = hn::Vec<Bytes>;
inline constexpr hn::FixedTag<std::int32_t, 8> kInts;

HWY_INLINE ByteVec bytes_at(const std::byte* p) {
  return hn::LoadU(Bytes(), reinterpret_cast<const std::uint8_t*>(p));
}

// Every byte shifted, to the left when Bits is negative; what comes in from its neighbour is for the caller to mask.
template <int Bits>
HWY_INLINE ByteVec shift_right(ByteVec v) {
  const auto pairs = hn::BitCast(Pairs(), v);
  if constexpr (Bits < 0)
    return hn::BitCast(Bytes(), hn::ShiftLeft<-Bits>(pairs));
  else
    return hn::BitCast(Bytes(), hn::ShiftRight<Bits>(pairs));
}
HWY_INLINE void put(ByteVec v, std::int8_t* p) {
  hn::StoreU(v, Bytes(), reinterpret_cast<std::uint8_t*>(p));
}

// A float16 in all lanes.
HWY_INLINE simd::Vec half_at(const std::byte* p) {
  const hn::FixedTag<std::uint16_t, 8> words;
  const hn::FixedTag<hwy::float16_t, 8> halves;
  std::uint16_t bits;
  std::memcpy(&bits, p, sizeof bits);
  return hn::PromoteTo(simd::Floats(), hn::BitCast(halves, hn::Set(words, bits)));
}

// Eight scales and eight minima of 6 bits in 12 bytes: the lower six bits of the first eight bytes are those of groups
// 0 to 3, the others are put together from the last four bytes and the two upper bits of the first eight.
HWY_INLINE void unpack_scales(const std::byte* block, KBlock& out) {
  const hn::FixedTag<std::uint8_t, 8> raw;
  const hn::FixedTag<std::uint64_t, 1> word;
  std::uint32_t packed[3];
  std::memcpy(packed, block + 4, sizeof packed);
  const auto widen = [&](std::uint32_t first, std::uint32_t last) {  // through a register: memory would stall
    const auto bytes = hn::BitCast(raw, hn::Set(word, std::uint64_t{last} << 32 | first));
    return hn::ConvertTo(simd::Floats(), hn::PromoteTo(kInts, bytes));
  };
  const auto scales = widen(packed[0] & 0x3f3f3f3f, (packed[2] & 0x0f0f0f0f) | (packed[0] >> 2 & 0x30303030));
  const auto minima = widen(packed[1] & 0x3f3f3f3f, (packed[2] >> 4 & 0x0f0f0f0f) | (packed[1] >> 2 & 0x30303030));
  simd::store(hn::Mul(scales, half_at(block)), out.factors);
  simd::store(hn::Mul(minima, half_at(block + 2)), out.minima);
}

// Groups 2 * Pair and 2 * Pair + 1 of Q5_K: bit g of a byte of fifth bits belongs to group g.
template <int Pair>
HWY_INLINE void unpack_q5_pair(const std::byte* block, std::int8_t* out) {
  const ByteVec both = bytes_at(block + 48 + Pair * 32), bits = bytes_at(block + 16);
  const ByteVec nibble = hn::Set(Bytes(), 15), fifth = hn::Set(Bytes(), 16);
  put(hn::Or(hn::And(both, nibble), hn::And(shift_right<2 * Pair - 4>(bits), fifth)), out + Pair * 64);
  put(hn::Or(hn::And(shift_right<4>(both), nibble), hn::And(shift_right<2 * Pair - 3>(bits), fifth)),
      out + Pair * 64 + 32);
}

HWY_INLINE void unpack_q6_half(const std::byte* low, const std::byte* bits_at, std::int8_t* out) {
  const ByteVec nibble = hn::Set(Bytes(), 15), upper = hn::Set(Bytes(), 0x30), offset = hn::Set(Bytes(), 32);
  const ByteVec first = bytes_at(low), second = bytes_at(low + 32), bits = bytes_at(bits_at);
  const auto join = [&](ByteVec lower, ByteVec two) {
    return hn::Sub(hn::Or(hn::And(lower, nibble), hn::And(two, upper)), offset);
  };
  put(join(first, shift_right<-4>(bits)), out);
  put(join(second, shift_right<-2>(bits)), out + 32);
  put(join(shift_right<4>(first), bits), out + 64);
  put(join(shift_right<4>(second), shift_right<2>(bits)), out + 96);
}

HWY_INLINE void unpack_q6(const std::byte* block, const std::byte* scale, KBlock& out) {
  unpack_q6_half(block, block + 128, out.quants);
  unpack_q6_half(block + 64, block + 160, out.quants + 128);
  const hn::FixedTag<std::int8_t, 8> raw;
  const simd::Vec d = half_at(scale);
  for (int i = 0; i < 16; i += 8) {
    const auto scales = hn::LoadU(raw, reinterpret_cast<const std::int8_t*>(block + 192 + i));
    simd::store(hn::Mul(hn::ConvertTo(simd::Floats(), hn::PromoteTo(kInts, scales)), d), out.factors + i);
  }
}

}  // namespace k_quants

// `scale` is the block's place in the plane of scales, for Q6_K.
template <TensorType Type>
HWY_INLINE void unpack_k_block(const std::byte* block, [[maybe_unused]] const std::byte* scale, KBlock& out) {
  if constexpr (Type == TensorType::q6_k) {
    k_quants::unpack_q6(block, scale, out);
  } else {
    k_quants::unpack_scales(block, out);
  }
  if constexpr (Type == TensorType::q4_k) out.nibbles = block + 16;
  if constexpr (Type == TensorType::q5_k) {
    k_quants::unpack_q5_pair<0>(block, out.quants);
    k_quants::unpack_q5_pair<1>(block, out.quants);
    k_quants::unpack_q5_pair<2>(block, out.quants);
    k_quants::unpack_q5_pair<3>(block, out.quants);
  }
}

// Vector `i` of the eight in columns 64 * step to 64 * step + 63 of the block. `i` is better known to the compiler.
template <TensorType Type>
HWY_INLINE simd::Vec k_values(const KBlock& block, int step, int i) {
  namespace hn = simd::hn;
  using k_quants::kInts;
  if constexpr (Type == TensorType::q4_k) {
    const hn::FixedTag<std::uint8_t, 8> raw;
    const auto both = hn::PromoteTo(
        kInts, hn::LoadU(raw, reinterpret_cast<const std::uint8_t*>(block.nibbles) + step * 32 + i % 4 * 8));
    const auto quants = i < 4 ? hn::And(both, hn::Set(kInts, 15)) : hn::ShiftRight<4>(both);
    return hn::MulSub(hn::ConvertTo(simd::Floats(), quants), simd::set(block.factors[step * 2 + i / 4]),
                      simd::set(block.minima[step * 2 + i / 4]));
  } else {
    const hn::FixedTag<std::int8_t, 8> raw;
    const auto quants = hn::PromoteTo(kInts, hn::LoadU(raw, block.quants + step * 64 + i * simd::kLanes));
    const simd::Vec wide = hn::ConvertTo(simd::Floats(), quants);
    if constexpr (Type == TensorType::q6_k)
      return hn::Mul(wide, simd::set(block.factors[step * 4 + i / 2]));
    else
      return hn::MulSub(wide, simd::set(block.factors[step * 2 + i / 4]), simd::set(block.minima[step * 2 + i / 4]));
  }
}

}  // namespace expertscope
