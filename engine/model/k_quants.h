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

constexpr bool is_k_quant(TensorType type) {
  return block_values(type) == kKBlock;
}

struct KBlock {
  alignas(32) std::int8_t quants[kKBlock];
  alignas(32) float factors[16];  // one per 32 values, for Q6_K one per 16
  alignas(32) float minima[8];    // not for Q6_K
};

namespace k_quants {

namespace hn = simd::hn;
using Bytes = hn::FixedTag<std::uint8_t, 32>;
using Pairs = hn::FixedTag<std::uint16_t, 16>;
using ByteVec = hn::Vec<Bytes>;

HWY_INLINE ByteVec bytes_at(const std::byte* p) {
  return hn::LoadU(Bytes(), reinterpret_cast<const std::uint8_t*>(p));
}
template <int Bits>
HWY_INLINE ByteVec shift_right(ByteVec v) {  // bits of a neighbour come in at the top
  return hn::BitCast(Bytes(), hn::ShiftRight<Bits>(hn::BitCast(Pairs(), v)));
}
template <int Bits>
HWY_INLINE ByteVec shift_left(ByteVec v) {
  return hn::BitCast(Bytes(), hn::ShiftLeft<Bits>(hn::BitCast(Pairs(), v)));
}
HWY_INLINE void put(ByteVec v, std::int8_t* p) {
  hn::StoreU(v, Bytes(), reinterpret_cast<std::uint8_t*>(p));
}

inline float half_at(const std::byte* p) {
  const hn::FixedTag<hwy::float16_t, 4> halves;
  std::uint16_t padded[4] = {};
  std::memcpy(padded, p, 2);
  return hn::GetLane(hn::PromoteTo(simd::Quad(), hn::LoadU(halves, reinterpret_cast<const hwy::float16_t*>(padded))));
}

// Eight scales and eight minima of 6 bits in 12 bytes.
HWY_INLINE void unpack_scales(const std::byte* block, KBlock& out) {
  const hn::FixedTag<std::uint8_t, 8> raw;
  const hn::FixedTag<std::int32_t, 8> ints;
  std::uint32_t packed[3];
  std::memcpy(packed, block + 4, sizeof packed);
  const std::uint32_t scales[2] = {packed[0] & 0x3f3f3f3f, (packed[2] & 0x0f0f0f0f) | (packed[0] >> 2 & 0x30303030)};
  const std::uint32_t minima[2] = {packed[1] & 0x3f3f3f3f,
                                   (packed[2] >> 4 & 0x0f0f0f0f) | (packed[1] >> 2 & 0x30303030)};
  const auto widen = [&](const std::uint32_t(&bytes)[2]) {
    return hn::ConvertTo(simd::Floats(),
                         hn::PromoteTo(ints, hn::LoadU(raw, reinterpret_cast<const std::uint8_t*>(bytes))));
  };
  simd::store(hn::Mul(widen(scales), simd::set(half_at(block))), out.factors);
  simd::store(hn::Mul(widen(minima), simd::set(half_at(block + 2))), out.minima);
}

template <TensorType Type>
HWY_INLINE void unpack_q4_q5(const std::byte* block, KBlock& out) {
  unpack_scales(block, out);
  const ByteVec nibble = hn::Set(Bytes(), 15), fifth = hn::Set(Bytes(), 16);
  const std::byte* p = block + (Type == TensorType::q5_k ? 48 : 16);
  const auto part = [&]<int Group>() {
    const ByteVec both = bytes_at(p + Group / 2 * 32);
    ByteVec q = hn::And(Group % 2 ? shift_right<4>(both) : both, nibble);
    if constexpr (Type == TensorType::q5_k) {
      const ByteVec bits = bytes_at(block + 16);
      if constexpr (Group < 4)
        q = hn::Or(q, hn::And(shift_left<4 - Group>(bits), fifth));
      else
        q = hn::Or(q, hn::And(shift_right<Group - 4>(bits), fifth));
    }
    put(q, out.quants + Group * 32);
  };
  part.template operator()<0>();
  part.template operator()<1>();
  part.template operator()<2>();
  part.template operator()<3>();
  part.template operator()<4>();
  part.template operator()<5>();
  part.template operator()<6>();
  part.template operator()<7>();
}

HWY_INLINE void unpack_q6(const std::byte* block, const std::byte* scale, KBlock& out) {
  const ByteVec nibble = hn::Set(Bytes(), 15), upper = hn::Set(Bytes(), 0x30), offset = hn::Set(Bytes(), 32);
  for (int half = 0; half < 2; ++half) {
    const ByteVec low = bytes_at(block + half * 64), high = bytes_at(block + half * 64 + 32),
                  bits = bytes_at(block + 128 + half * 32);
    std::int8_t* q = out.quants + half * 128;
    const auto join = [&](ByteVec lower, ByteVec two) {
      return hn::Sub(hn::Or(hn::And(lower, nibble), hn::And(two, upper)), offset);
    };
    put(join(low, shift_left<4>(bits)), q);
    put(join(high, shift_left<2>(bits)), q + 32);
    put(join(shift_right<4>(low), bits), q + 64);
    put(join(shift_right<4>(high), shift_right<2>(bits)), q + 96);
  }
  const hn::FixedTag<std::int8_t, 8> raw;
  const hn::FixedTag<std::int32_t, 8> ints;
  const simd::Vec d = simd::set(half_at(scale));
  for (int i = 0; i < 16; i += 8) {
    const auto scales = hn::LoadU(raw, reinterpret_cast<const std::int8_t*>(block + 192 + i));
    simd::store(hn::Mul(hn::ConvertTo(simd::Floats(), hn::PromoteTo(ints, scales)), d), out.factors + i);
  }
}

}  // namespace k_quants

// `scale` is the block's place in the plane of scales, for Q6_K.
template <TensorType Type>
HWY_INLINE void unpack_k_block(const std::byte* block, [[maybe_unused]] const std::byte* scale, KBlock& out) {
  if constexpr (Type == TensorType::q6_k)
    k_quants::unpack_q6(block, scale, out);
  else
    k_quants::unpack_q4_q5<Type>(block, out);
}

// Values 8i to 8i + 7 of the block.
template <TensorType Type>
HWY_INLINE simd::Vec k_values(const KBlock& block, int i) {
  namespace hn = simd::hn;
  const hn::FixedTag<std::int8_t, 8> raw;
  const hn::FixedTag<std::int32_t, 8> ints;
  const simd::Vec quants =
      hn::ConvertTo(simd::Floats(), hn::PromoteTo(ints, hn::LoadU(raw, block.quants + i * simd::kLanes)));
  if constexpr (Type == TensorType::q6_k) return hn::Mul(quants, simd::set(block.factors[i / 2]));
  return hn::MulSub(quants, simd::set(block.factors[i / 4]), simd::set(block.minima[i / 4]));
}

}  // namespace expertscope
