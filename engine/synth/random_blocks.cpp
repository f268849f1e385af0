#include "engine/synth/random_blocks.h"

#include <bit>
#include <cmath>
#include <cstring>

#include <immintrin.h>

#include "engine/assert.h"

namespace expertscope {
namespace {

constexpr std::size_t kValues = 4096;  // that occur of a type without blocks: few enough for the fastest cache

// Standard deviation of a block's values when all its bits are random and its scale d is 1. K-quants subtract a
// minimum, also random, whose scale dmin makes the mean 0: the mean of a quant times d.
constexpr double kByte = 73.47;  // whole numbers from -127 to 127, 0 twice as often
double deviation_at_scale_1(TensorType type) {
  constexpr double kSixBits = 31.5, kSixBitsSquare = 63 * 127 / 6.0;  // means of a number of 6 bits and of its square
  const auto with_minimum = [&](double mean, double mean_square) {
    const double product = kSixBitsSquare * mean_square - kSixBits * kSixBits * mean * mean;
    return std::sqrt(product + mean * mean * (kSixBitsSquare - kSixBits * kSixBits));
  };
  switch (type) {
    case TensorType::q8_0:
      return kByte;
    case TensorType::q4_0:
      return std::sqrt((16 * 16 - 1) / 12.0 + 0.25);  // -8 to 7
    case TensorType::q4_k:
      return with_minimum(7.5, 15 * 31 / 6.0);
    case TensorType::q5_k:
      return with_minimum(15.5, 31 * 63 / 6.0);
    case TensorType::q6_k:  // a signed byte times -32 to 31
      return std::sqrt(((256 * 256 - 1) / 12.0 + 0.25) * ((64 * 64 - 1) / 12.0 + 0.25));
    default:
      return 1;
  }
}

// Where d is within a block, and how often dmin is as large, right behind it; 0: there is none.
struct ScalePlace {
  std::size_t offset;
  double min_factor;
};
ScalePlace place_of(TensorType type) {
  switch (type) {
    case TensorType::q4_k:
      return {0, 7.5};
    case TensorType::q5_k:
      return {0, 15.5};
    case TensorType::q6_k:
      return {208, 0};
    default:
      return {0, 0};
  }
}

std::uint16_t to_bfloat16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return static_cast<std::uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

}  // namespace

std::uint16_t to_float16(float value) {
  return _cvtss_sh(value, _MM_FROUND_TO_NEAREST_INT);
}

RandomBlocks::RandomBlocks(TensorType type, double standard_deviation, CounterRandom random)
    : type_(type), random_(random) {
  if (is_quantised(type)) {
    double mean_square = 0;
    const auto factor = [](std::size_t i) { return 0.65 + 0.1 * static_cast<double>(i); };
    for (std::size_t i = 0; i < kScales; ++i) mean_square += factor(i) * factor(i) / kScales;
    const double d = standard_deviation / deviation_at_scale_1(type) / std::sqrt(mean_square);
    for (std::size_t i = 0; i < kScales; ++i) {
      scale_[i] = to_float16(static_cast<float>(d * factor(i)));
      min_scale_[i] = to_float16(static_cast<float>(d * factor(i) * place_of(type).min_factor));
    }
    return;
  }
  ES_ASSERT(type == TensorType::f16 || type == TensorType::bf16, "random weights are never F32");
  values_.resize(kValues);
  for (std::size_t i = 0; i < kValues; ++i) {
    const double uniform = (static_cast<double>(i) + 0.5) / kValues * 2 - 1;
    const auto value = static_cast<float>(uniform * std::sqrt(3.0) * standard_deviation);
    values_[i] = type == TensorType::f16 ? to_float16(value) : to_bfloat16(value);
  }
}

void RandomBlocks::fill(std::int64_t first, std::span<std::byte> out) const {
  if (!is_quantised(type_)) return fill_plain(first, out);
  const auto counter = static_cast<std::uint64_t>(tensor_bytes(type_, first)) / 8;
  for (std::size_t i = 0; i < out.size(); i += 8) {
    const std::uint64_t bits = random_.at(counter + i / 8);
    std::memcpy(&out[i], &bits, 8);
  }
  set_scales(out);
}

void RandomBlocks::fill_plain(std::int64_t first, std::span<std::byte> out) const {
  const auto counter = static_cast<std::uint64_t>(first) / 4;
  for (std::size_t i = 0; i < out.size(); i += 8) {
    const std::uint64_t bits = random_.at(counter + i / 8);
    std::uint64_t four = 0;
    for (unsigned k = 0; k < 64; k += 16) four |= std::uint64_t{values_[(bits >> k) % kValues]} << k;
    std::memcpy(&out[i], &four, 8);
  }
}

void RandomBlocks::set_scales(std::span<std::byte> blocks) const {
  const auto block_size = static_cast<std::size_t>(block_bytes(type_));
  const ScalePlace place = place_of(type_);
  for (std::size_t begin = 0; begin < blocks.size(); begin += block_size) {
    std::byte* d = &blocks[begin + place.offset];
    const auto which = static_cast<std::size_t>(d[0]) % kScales;
    std::memcpy(d, &scale_[which], 2);
    if (place.min_factor > 0) std::memcpy(d + 2, &min_scale_[which], 2);
    if (type_ != TensorType::q8_0) continue;
    // No quantiser writes -128, so no kernel needs to be prepared for it.
    auto* quants = reinterpret_cast<std::int8_t*>(d + 2);
    for (int i = 0; i < 32; ++i) quants[i] = quants[i] == -128 ? std::int8_t{0} : quants[i];
  }
}

}  // namespace expertscope
