#include "engine/model/elementary.h"

#include <bit>
#include <cmath>
#include <cstdint>

#include "engine/model/simd.h"

namespace expertscope {

namespace {

constexpr double kLn2High = 0x1.62e42fefa39efp-1;
constexpr double kLn2Low = 0x1.abc9e3b39803fp-56;
constexpr double kHalfPiHigh = 0x1.921fb54442d18p+0;
constexpr double kHalfPiLow = 0x1.1a62633145c07p-54;

double power_of_two(std::int64_t exponent) {
  return std::bit_cast<double>(static_cast<std::uint64_t>(exponent + 1023) << 52);
}

}  // namespace

float exp_f32(float x) {
  return simd::hn::GetLane(simd::exp(simd::hn::Set(simd::Floats(), x)));
}

double exp_f64(double x) {
  const double k = std::nearbyint(x * 0x1.71547652b82fep+0);
  const double r = std::fma(-k, kLn2Low, std::fma(-k, kLn2High, x));
  // Taylor's series by Horner's rule; |r| <= ln(2) / 2 leaves less than 1e-17 after 14 terms.
  double sum = 1;
  for (int n = 14; n >= 1; --n) sum = std::fma(sum, r / n, 1.0);
  const auto exponent = static_cast<std::int64_t>(k);
  // In two halves, so that results near the ends of the range do not overflow on the way.
  return sum * power_of_two(exponent / 2) * power_of_two(exponent - exponent / 2);
}

double log_f64(double x) {
  const auto bits = std::bit_cast<std::uint64_t>(x);
  auto exponent = static_cast<std::int64_t>(bits >> 52) - 1023;
  double mantissa = std::bit_cast<double>((bits & ((std::uint64_t{1} << 52) - 1)) | (std::uint64_t{1023} << 52));
  if (mantissa > 0x1.6a09e667f3bcdp+0) {
    mantissa *= 0.5;
    ++exponent;
  }
  // log(m) = 2 atanh((m - 1) / (m + 1)), |s| <= 0.172.
  const double s = (mantissa - 1) / (mantissa + 1);
  const double square = s * s;
  double sum = 0;
  for (int n = 23; n >= 1; n -= 2) sum = std::fma(sum, square, 1.0 / n);
  const double k = static_cast<double>(exponent);
  return std::fma(k, kLn2High, std::fma(k, kLn2Low, 2 * s * sum));
}

void sincos_f64(double x, double& sine, double& cosine) {
  const double k = std::nearbyint(x * 0x1.45f306dc9c883p-1);
  const double r = std::fma(-k, kHalfPiLow, std::fma(-k, kHalfPiHigh, x));
  const double square = r * r;
  double s = 1, c = 1;
  for (int n = 18; n >= 2; n -= 2) {
    s = std::fma(s, -square / (n * (n + 1)), 1.0);
    c = std::fma(c, -square / (n * (n - 1)), 1.0);
  }
  s *= r;
  switch (static_cast<std::int64_t>(k) & 3) {
    case 0:
      sine = s, cosine = c;
      break;
    case 1:
      sine = c, cosine = -s;
      break;
    case 2:
      sine = -s, cosine = -c;
      break;
    default:
      sine = -c, cosine = s;
      break;
  }
}

}  // namespace expertscope
