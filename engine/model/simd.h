// The one vector width of the engine, eight float lanes, and what all kernels build on. Included by kernel sources
// only.
#pragma once

// x86-64-v3 lacks AES, without which Highway would not take AVX2 as the compile-time target; nothing here needs AES.
#define HWY_DISABLE_PCLMUL_AES
#include <cstddef>
#include <cstdint>

#include <hwy/highway.h>

static_assert(HWY_STATIC_TARGET <= HWY_AVX2, "compile with -march=x86-64-v3: results are defined for AVX2 with FMA");

namespace expertscope::simd {

namespace hn = hwy::HWY_NAMESPACE;
using Floats = hn::FixedTag<float, 8>;
using Quad = hn::FixedTag<float, 4>;
using Vec = hn::Vec<Floats>;
using QuadVec = hn::Vec<Quad>;
inline constexpr int kLanes = 8;

HWY_INLINE Vec load(const float* p) {
  return hn::LoadU(Floats(), p);
}
HWY_INLINE void store(Vec v, float* p) {
  hn::StoreU(v, Floats(), p);
}
HWY_INLINE Vec set(float value) {
  return hn::Set(Floats(), value);
}

// Lane sums of four vectors, each as ((0+2)+(1+3)) + ((4+6)+(5+7)).
HWY_INLINE QuadVec sum4(Vec a, Vec b, Vec c, Vec d) {
  const Floats tag;
  const hn::Repartition<double, Floats> pairs;
  const Vec ab = hn::Add(hn::InterleaveLower(tag, a, b), hn::InterleaveUpper(tag, a, b));  // a02 b02 a13 b13 per half
  const Vec cd = hn::Add(hn::InterleaveLower(tag, c, d), hn::InterleaveUpper(tag, c, d));
  const auto low = hn::InterleaveLower(pairs, hn::BitCast(pairs, ab), hn::BitCast(pairs, cd));
  const auto high = hn::InterleaveUpper(pairs, hn::BitCast(pairs, ab), hn::BitCast(pairs, cd));
  const Vec halves = hn::Add(hn::BitCast(tag, low), hn::BitCast(tag, high));
  return hn::Add(hn::LowerHalf(Quad(), halves), hn::UpperHalf(Quad(), halves));
}

HWY_INLINE float sum(Vec v) {
  return hn::GetLane(sum4(v, v, v, v));
}

// See exp_f32. Cephes' polynomial; the argument is reduced in two steps.
HWY_INLINE Vec exp(Vec x) {
  const Floats tag;
  const hn::RebindToSigned<Floats> ints;
  const auto too_small = hn::Lt(x, set(-87.3f));
  // In this order a NaN stays one.
  x = hn::Max(set(-87.3f), hn::Min(set(88.3f), x));
  const Vec k = hn::Round(hn::Mul(x, set(1.44269504f)));
  Vec r = hn::NegMulAdd(k, set(0.693359375f), x);
  r = hn::NegMulAdd(k, set(-2.12194440e-4f), r);
  Vec p = set(1.9875691500e-4f);
  p = hn::MulAdd(p, r, set(1.3981999507e-3f));
  p = hn::MulAdd(p, r, set(8.3334519073e-3f));
  p = hn::MulAdd(p, r, set(4.1665795894e-2f));
  p = hn::MulAdd(p, r, set(1.6666665459e-1f));
  p = hn::MulAdd(p, r, set(5.0000001201e-1f));
  p = hn::MulAdd(p, hn::Mul(r, r), hn::Add(r, set(1.0f)));
  const auto power = hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(ints, k), hn::Set(ints, 127)));
  return hn::IfThenZeroElse(too_small, hn::Mul(p, hn::BitCast(tag, power)));
}

}  // namespace expertscope::simd
