#define HWY_DISABLE_PCLMUL_AES  // see simd.h
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/model/integer_products.cpp"
#include "engine/model/integer_products.h"

#include <algorithm>
#include <cstring>

#include <hwy/foreach_target.h>  // NOLINT: the file once more for each instruction set
#include <hwy/highway.h>

#include "engine/assert.h"

HWY_BEFORE_NAMESPACE();
namespace expertscope {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

constexpr int kBlock = 256;

// 16-bit lanes, at most a group of 32 at a time; bytes of as many lanes; sums.
const hn::CappedTag<std::int16_t, 32> kWords;
const hn::Rebind<std::uint8_t, decltype(kWords)> kBytes;
const hn::Rebind<std::int8_t, decltype(kWords)> kSigned;
const hn::RepartitionToWide<decltype(kWords)> kInts;
const hn::RebindToFloat<decltype(kInts)> kFloats;
using Words = hn::Vec<decltype(kWords)>;
using Bytes = hn::Vec<decltype(kBytes)>;
using Ints = hn::Vec<decltype(kInts)>;
using Floats = hn::Vec<decltype(kFloats)>;
constexpr int kLanes = std::min(32, HWY_MAX_BYTES / 2);
constexpr int kGroup = 32, kPieces = kGroup / kLanes;  // of a group

float half_at(const std::byte* p) {
  const hn::CappedTag<float, 1> one;
  hwy::float16_t half;
  std::memcpy(&half, p, sizeof half);
  return hn::GetLane(hn::PromoteTo(one, hn::Load(hn::Rebind<hwy::float16_t, decltype(one)>(), &half)));
}
HWY_INLINE Bytes bytes_at(const std::byte* p) {
  return hn::LoadU(kBytes, reinterpret_cast<const std::uint8_t*>(p));
}
HWY_INLINE Bytes low(Bytes v) {
  return hn::And(v, hn::Set(kBytes, 15));
}
HWY_INLINE Words widen(Bytes v) {
  return hn::BitCast(kWords, hn::PromoteTo(hn::RebindToUnsigned<decltype(kWords)>(), v));
}
// sum += the products of neighbouring lanes, added in pairs.
HWY_INLINE void add(Words weights, const std::int16_t* x, Ints& sum) {
  Ints rest = hn::Zero(kInts);
  sum = hn::ReorderWidenMulAccumulate(kInts, weights, hn::LoadU(kWords, x), sum, rest);
  sum = hn::Add(sum, rest);
}
HWY_INLINE void add_scaled(Ints sum, float scale, Floats& total) {
  total = hn::MulAdd(hn::ConvertTo(kFloats, sum), hn::Set(kFloats, scale), total);
}

// What the twelve bytes of a Q4_K or Q5_K block hold (models.md section 4): six bits each.
struct GroupScales {
  std::uint8_t scale[8], min[8];
  explicit GroupScales(const std::byte* block) {
    std::uint32_t packed[3];
    std::memcpy(packed, block + 4, sizeof packed);
    const std::uint32_t words[4] = {packed[0] & 0x3f3f3f3f, (packed[2] & 0x0f0f0f0f) | (packed[0] >> 2 & 0x30303030),
                                    packed[1] & 0x3f3f3f3f,
                                    (packed[2] >> 4 & 0x0f0f0f0f) | (packed[1] >> 2 & 0x30303030)};
    std::memcpy(scale, words, 8);
    std::memcpy(min, words + 2, 8);
  }
};
// What the minima of a block's groups take away, a lane for each.
const hn::FixedTag<float, 8> kGroups;
using Less = hn::Vec<decltype(kGroups)>;
HWY_INLINE void take_minima(const GroupScales& groups, float scale, const float* sums, Less& less) {
  const hn::Rebind<std::int32_t, decltype(kGroups)> ints;
  const hn::Rebind<std::uint8_t, decltype(kGroups)> bytes;
  const Less minima = hn::ConvertTo(kGroups, hn::PromoteTo(ints, hn::LoadU(bytes, groups.min)));
  less = hn::MulAdd(hn::Mul(minima, hn::Set(kGroups, scale)), hn::LoadU(kGroups, sums), less);
}

// Bit `Bit` of each byte, as 16 or 0.
template <int Bit>
HWY_INLINE Bytes fifth(Bytes v) {
  const hn::Repartition<std::uint16_t, decltype(kBytes)> pairs;
  const auto wide = hn::BitCast(pairs, v);
  if constexpr (Bit < 4)
    return hn::And(hn::BitCast(kBytes, hn::ShiftLeft<4 - Bit>(wide)), hn::Set(kBytes, 16));
  else
    return hn::And(hn::BitCast(kBytes, hn::ShiftRight<Bit - 4>(wide)), hn::Set(kBytes, 16));
}
template <int Bits>
HWY_INLINE Bytes shifted(Bytes v) {  // what comes in from a neighbour is for the caller to mask
  const hn::Repartition<std::uint16_t, decltype(kBytes)> pairs;
  return hn::BitCast(kBytes, hn::ShiftRight<Bits>(hn::BitCast(pairs, v)));
}

// A product of a row: block by block, `block` of 256 columns, their activations, and where sums go. Types whose scales
// are a plane of one for each 32 columns may end within a block. At most 2^30 in a
// lane of 32 bits: 15 bits of activation, 6 of scale, 5 of quant, twice, eight times.
struct Q4K {
  static constexpr int kBytesOfBlock = 144, kScalesOfBlock = 1;
  static HWY_INLINE void block(const std::byte* p, const std::byte*, const std::int16_t* x, float scale,
                               const float* sums, Floats& total, Less& less) {
    const GroupScales groups(p);
    const std::byte* quants = p + 16;
    Ints even = hn::Zero(kInts), odd = hn::Zero(kInts);
    for (int j = 0; j < 4; ++j) {
      const Words first = hn::Set(kWords, groups.scale[2 * j]), second = hn::Set(kWords, groups.scale[2 * j + 1]);
      for (int i = 0; i < kPieces; ++i) {
        const Bytes both = bytes_at(quants + 32 * j + i * kLanes);
        add(hn::Mul(widen(low(both)), first), x + 64 * j + i * kLanes, even);
        add(hn::Mul(widen(low(shifted<4>(both))), second), x + 64 * j + 32 + i * kLanes, odd);
      }
    }
    add_scaled(hn::Add(even, odd), scale * half_at(p), total);
    take_minima(groups, half_at(p + 2), sums, less);
  }
};

struct Q5K {
  static constexpr int kBytesOfBlock = 176, kScalesOfBlock = 1;
  template <int J>
  static HWY_INLINE void groups_of(const std::byte* p, const GroupScales& groups, const std::int16_t* x, Ints& even,
                                   Ints& odd) {
    const Words first = hn::Set(kWords, groups.scale[2 * J]), second = hn::Set(kWords, groups.scale[2 * J + 1]);
    for (int i = 0; i < kPieces; ++i) {
      const Bytes both = bytes_at(p + 48 + 32 * J + i * kLanes), tops = bytes_at(p + 16 + i * kLanes);
      add(hn::Mul(widen(hn::Or(low(both), fifth<2 * J>(tops))), first), x + 64 * J + i * kLanes, even);
      add(hn::Mul(widen(hn::Or(low(shifted<4>(both)), fifth<2 * J + 1>(tops))), second), x + 64 * J + 32 + i * kLanes,
          odd);
    }
  }
  static HWY_INLINE void block(const std::byte* p, const std::byte*, const std::int16_t* x, float scale,
                               const float* sums, Floats& total, Less& less) {
    const GroupScales groups(p);
    Ints even = hn::Zero(kInts), odd = hn::Zero(kInts);
    groups_of<0>(p, groups, x, even, odd);
    groups_of<1>(p, groups, x, even, odd);
    groups_of<2>(p, groups, x, even, odd);
    groups_of<3>(p, groups, x, even, odd);
    add_scaled(hn::Add(even, odd), scale * half_at(p), total);
    take_minima(groups, half_at(p + 2), sums, less);
  }
};

struct Q6K {
  static constexpr int kBytesOfBlock = 208, kScalesOfBlock = 1;  // ql[128] qh[64] scales[16]; d is in the other plane
  // 32 quants, less 32, times the scales of their two halves.
  static HWY_INLINE void quarter(Bytes quants, Bytes tops, const std::byte* scales, const std::int16_t* x, int i,
                                 Ints& sum) {
    const Bytes q = hn::Or(low(quants), hn::And(tops, hn::Set(kBytes, 48)));
    alignas(64) std::int16_t of_lanes[kGroup];
    const hn::FixedTag<std::int16_t, 16> half;
    for (int part = 0; part < 2; ++part)
      hn::Store(hn::Set(half, static_cast<std::int8_t>(scales[part])), half, of_lanes + 16 * part);
    const Words scaled =
        hn::Mul(hn::Sub(widen(q), hn::Set(kWords, 32)), hn::Load(kWords, of_lanes + i * kLanes % kGroup));
    add(scaled, x + i * kLanes, sum);
  }
  static HWY_INLINE void block(const std::byte* p, const std::byte* d, const std::int16_t* x, float scale, const float*,
                               Floats& total, Less&) {
    for (int half = 0; half < 2; ++half) {
      const std::byte *ql = p + 64 * half, *qh = p + 128 + 32 * half, *scales = p + 192 + 8 * half;
      const std::int16_t* at = x + 128 * half;
      Ints sum = hn::Zero(kInts);
      for (int i = 0; i < kPieces; ++i) {
        const Bytes first = bytes_at(ql + i * kLanes), second = bytes_at(ql + 32 + i * kLanes);
        const Bytes tops = bytes_at(qh + i * kLanes);
        const hn::Repartition<std::uint16_t, decltype(kBytes)> pairs;
        const auto left = hn::BitCast(pairs, tops);
        quarter(first, hn::BitCast(kBytes, hn::ShiftLeft<4>(left)), scales, at, i, sum);
        quarter(second, hn::BitCast(kBytes, hn::ShiftLeft<2>(left)), scales + 2, at + 32, i, sum);
        quarter(shifted<4>(first), tops, scales + 4, at + 64, i, sum);
        quarter(shifted<4>(second), shifted<2>(tops), scales + 6, at + 96, i, sum);
      }
      add_scaled(sum, scale * half_at(d), total);
    }
  }
};

struct Q80 {
  static constexpr int kBytesOfBlock = 256, kScalesOfBlock = 8;
  static HWY_INLINE void block(const std::byte* p, const std::byte* d, const std::int16_t* x, float scale, const float*,
                               Floats& total, Less&, int groups) {
    for (int j = 0; j < groups; ++j) {
      Ints sum = hn::Zero(kInts);
      for (int i = 0; i < kPieces; ++i) {
        const int at = kGroup * j + i * kLanes;
        add(hn::PromoteTo(kWords, hn::LoadU(kSigned, reinterpret_cast<const std::int8_t*>(p) + at)), x + at, sum);
      }
      add_scaled(sum, scale * half_at(d + 2 * j), total);
    }
  }
};

struct Q40 {
  static constexpr int kBytesOfBlock = 128, kScalesOfBlock = 8;
  static HWY_INLINE void block(const std::byte* p, const std::byte* d, const std::int16_t* x, float scale, const float*,
                               Floats& total, Less&, int groups) {
    alignas(64) std::uint8_t quants[kGroup];
    const hn::FixedTag<std::uint8_t, 16> half;
    for (int j = 0; j < groups; ++j) {
      const auto both = hn::LoadU(half, reinterpret_cast<const std::uint8_t*>(p) + 16 * j);
      const hn::Repartition<std::uint16_t, decltype(half)> pairs;
      const auto high = hn::BitCast(half, hn::ShiftRight<4>(hn::BitCast(pairs, both)));
      hn::Store(hn::And(both, hn::Set(half, 15)), half, quants);
      hn::Store(hn::And(high, hn::Set(half, 15)), half, quants + 16);
      Ints sum = hn::Zero(kInts);
      for (int i = 0; i < kPieces; ++i)
        add(hn::Sub(widen(hn::Load(kBytes, quants + i * kLanes)), hn::Set(kWords, 8)), x + kGroup * j + i * kLanes,
            sum);
      add_scaled(sum, scale * half_at(d + 2 * j), total);
    }
  }
};

template <typename Type>
void rows(const WeightView& w, int begin, int end, const IntegerRow& x, float* y) {
  constexpr int kAhead = 1024;  // bytes that are asked for early
  const std::int64_t quants = quants_bytes(w.type, w.cols), scales = scales_bytes(w.type, w.cols);
  const int blocks = (w.cols + kBlock - 1) / kBlock;
  for (int row = begin; row < end; ++row) {
    const std::byte* p = w.quants + row * quants;
    const std::byte* d = w.scales + (w.scales == nullptr ? 0 : row * scales);
    Floats total = hn::Zero(kFloats);
    Less less = hn::Zero(kGroups);
    for (int b = 0; b < blocks; ++b, p += Type::kBytesOfBlock) {
      for (int line = 0; line < Type::kBytesOfBlock; line += 64) __builtin_prefetch(p + kAhead + line);
      const auto at = static_cast<std::size_t>(b);
      const std::int16_t* values = x.values.data() + at * kBlock;
      const float* sums = x.sums.data() + at * 8;
      if constexpr (Type::kScalesOfBlock == 1)
        Type::block(p, d, values, x.scales[at], sums, total, less);
      else
        Type::block(p, d, values, x.scales[at], sums, total, less, std::min(8, w.cols / kGroup - 8 * b));
      d += 2 * Type::kScalesOfBlock;
    }
    y[row] = hn::GetLane(hn::SumOfLanes(kFloats, total)) - hn::GetLane(hn::SumOfLanes(kGroups, less));
  }
}

// 256 activations as integers, and the scaled sum of each 32; returns their scale. At most 14 bits of value, so that
// sums stay within 32.
float round_block(const float* x, std::int16_t* values, float* sums) {
  constexpr float kMost = 16383;
  Floats largest = hn::Zero(kFloats);
  const int lanes = static_cast<int>(hn::Lanes(kFloats));
  for (int i = 0; i < kBlock; i += lanes) largest = hn::Max(largest, hn::Abs(hn::LoadU(kFloats, x + i)));
  const float most = hn::GetLane(hn::MaxOfLanes(kFloats, largest)), scale = most / kMost;
  const Floats inverse = hn::Set(kFloats, most > 0 ? kMost / most : 0);
  const hn::Rebind<std::int16_t, decltype(kFloats)> half;
  for (int g = 0; g < kBlock / kGroup; ++g) {
    Ints sum = hn::Zero(kInts);
    for (int i = g * kGroup; i < (g + 1) * kGroup; i += lanes) {
      const Ints rounded = hn::NearestInt(hn::Mul(hn::LoadU(kFloats, x + i), inverse));
      sum = hn::Add(sum, rounded);
      hn::StoreU(hn::DemoteTo(half, rounded), half, values + i);
    }
    sums[g] = scale * static_cast<float>(hn::GetLane(hn::SumOfLanes(kInts, sum)));
  }
  return scale;
}

void multiply(const WeightView& w, int begin, int end, const IntegerRow& x, float* y) {
  switch (w.type) {
    case TensorType::q8_0:
      return rows<Q80>(w, begin, end, x, y);
    case TensorType::q4_0:
      return rows<Q40>(w, begin, end, x, y);
    case TensorType::q4_k:
      return rows<Q4K>(w, begin, end, x, y);
    case TensorType::q5_k:
      return rows<Q5K>(w, begin, end, x, y);
    case TensorType::q6_k:
      return rows<Q6K>(w, begin, end, x, y);
    default:
      ES_ASSERT(false, "only quantised types have products in integers");
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace expertscope
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace expertscope {

namespace {
HWY_EXPORT(multiply);
HWY_EXPORT(round_block);
}  // namespace

bool has_integer_products(TensorType type) {
  return type >= TensorType::q8_0;
}

void to_integers(const float* x, int n, IntegerRow& row) {
  const auto blocks = static_cast<std::size_t>((n + 255) / 256);
  row.values.resize(blocks * 256);
  row.scales.resize(blocks);
  row.sums.resize(blocks * 8);
  for (std::size_t b = 0; b < blocks; ++b) {
    const std::size_t first = b * 256, count = std::min<std::size_t>(256, static_cast<std::size_t>(n) - first);
    float padded[256] = {};
    if (count < 256) std::copy_n(x + first, count, padded);
    row.scales[b] = HWY_DYNAMIC_DISPATCH(round_block)(count < 256 ? padded : x + first, row.values.data() + first,
                                                      row.sums.data() + b * 8);
  }
}

void multiply_integers(const WeightView& w, int begin, int end, const IntegerRow& x, float* y) {
  HWY_DYNAMIC_DISPATCH(multiply)(w, begin, end, x, y);
}

}  // namespace expertscope
#endif  // HWY_ONCE
