#include "engine/model/reference_ops.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

namespace expertscope::reference {

namespace {

template <typename T>
T read(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

double half_to_double(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  double value;
  if (exponent == 31)
    value = mantissa ? NAN : INFINITY;
  else if (exponent == 0)
    value = std::ldexp(mantissa, -24);
  else
    value = std::ldexp(1024 + mantissa, exponent - 25);
  return bits & 0x8000 ? -value : value;
}

// Q4_K and Q5_K: scale and minimum of group j of eight, from the 12 bytes they are packed in.
std::pair<int, int> packed_scale(const std::byte* p, int j) {
  const auto q = [p](int i) { return static_cast<int>(read<std::uint8_t>(p + i)); };
  if (j < 4) return {q(j) & 63, q(j + 4) & 63};
  return {(q(j + 4) & 15) | (q(j - 4) >> 6 << 4), (q(j + 4) >> 4) | (q(j) >> 6 << 4)};
}

void dequantise_q4_q5_k(TensorType type, const std::byte* p, double* y) {
  const double d = half_to_double(read<std::uint16_t>(p)), dmin = half_to_double(read<std::uint16_t>(p + 2));
  const std::byte* qs = p + (type == TensorType::q5_k ? 48 : 16);
  for (int group = 0; group < 8; ++group) {
    const auto [scale, minimum] = packed_scale(p + 4, group);
    for (int l = 0; l < 32; ++l) {
      int q = read<std::uint8_t>(qs + group / 2 * 32 + l) >> group % 2 * 4 & 15;
      if (type == TensorType::q5_k) q |= (read<std::uint8_t>(p + 16 + l) >> group & 1) << 4;
      y[group * 32 + l] = d * scale * q - dmin * minimum;
    }
  }
}

void dequantise_q6_k(const std::byte* p, double* y) {
  const double d = half_to_double(read<std::uint16_t>(p + 208));
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128, part = i % 128 / 32, l = i % 32;
    const int nibble = read<std::uint8_t>(p + half * 64 + part % 2 * 32 + l) >> part / 2 * 4 & 15;
    const int upper = read<std::uint8_t>(p + 128 + half * 32 + l) >> part * 2 & 3;
    y[i] = d * read<std::int8_t>(p + 192 + i / 16) * ((nibble | upper << 4) - 32);
  }
}

void dequantise_block(TensorType type, const std::byte* p, double* y) {
  switch (type) {
    case TensorType::f32:
      y[0] = read<float>(p);
      break;
    case TensorType::f16:
      y[0] = half_to_double(read<std::uint16_t>(p));
      break;
    case TensorType::bf16:
      y[0] = std::bit_cast<float>(std::uint32_t{read<std::uint16_t>(p)} << 16);
      break;
    case TensorType::q8_0: {
      const double d = half_to_double(read<std::uint16_t>(p));
      for (int j = 0; j < 32; ++j) y[j] = d * read<std::int8_t>(p + 2 + j);
      break;
    }
    case TensorType::q4_0: {
      const double d = half_to_double(read<std::uint16_t>(p));
      for (int j = 0; j < 16; ++j) {
        const int both = read<std::uint8_t>(p + 2 + j);
        y[j] = d * ((both & 15) - 8);
        y[j + 16] = d * ((both >> 4) - 8);
      }
      break;
    }
    case TensorType::q4_k:
    case TensorType::q5_k:
      dequantise_q4_q5_k(type, p, y);
      break;
    case TensorType::q6_k:
      dequantise_q6_k(p, y);
      break;
  }
}

}  // namespace

std::vector<double> dequantise(TensorType type, std::span<const std::byte> file_bytes) {
  const auto values = static_cast<std::size_t>(block_values(type)), bytes = static_cast<std::size_t>(block_bytes(type));
  std::vector<double> out(file_bytes.size() / bytes * values);
  for (std::size_t block = 0; block < file_bytes.size() / bytes; ++block) {
    dequantise_block(type, file_bytes.data() + block * bytes, out.data() + block * values);
  }
  return out;
}

std::vector<double> multiply(std::span<const double> w, std::span<const float> x) {
  std::vector<double> y(w.size() / x.size());
  for (std::size_t row = 0; row < y.size(); ++row) {
    for (std::size_t col = 0; col < x.size(); ++col) y[row] += w[row * x.size() + col] * x[col];
  }
  return y;
}

std::vector<double> rms_norm(std::span<const float> x, std::span<const float> weight, double eps) {
  double squares = 0;
  for (const double v : x) squares += v * v;
  const double rms = std::sqrt(squares / static_cast<double>(x.size()) + eps);
  std::vector<double> y(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) y[i] = x[i] / rms * weight[i];
  return y;
}

std::vector<double> softmax(std::span<const double> x) {
  const double largest = *std::max_element(x.begin(), x.end());
  std::vector<double> y(x.size());
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) sum += y[i] = std::exp(x[i] - largest);
  for (double& v : y) v /= sum;
  return y;
}

double silu(double x) {
  return x / (1 + std::exp(-x));
}

std::vector<double> rope(const RopeRule& rule, int position, std::span<const float> head) {
  std::vector<double> y(head.begin(), head.end());
  const auto half = static_cast<std::size_t>(rule.dims / 2);
  for (std::size_t i = 0; i < half; ++i) {
    const bool interleaved = rule.style == RopeStyle::interleaved;
    const std::size_t a = interleaved ? 2 * i : i, b = interleaved ? 2 * i + 1 : i + half;
    const double angle = position * std::pow(rule.base, -2.0 * static_cast<double>(i) / rule.dims);
    y[a] = head[a] * std::cos(angle) - head[b] * std::sin(angle);
    y[b] = head[a] * std::sin(angle) + head[b] * std::cos(angle);
  }
  return y;
}

std::vector<double> attend(std::span<const float> query, std::span<const float> keys, std::span<const float> values) {
  const std::size_t dim = query.size(), length = keys.size() / dim;
  std::vector<double> scores(length);
  for (std::size_t j = 0; j < length; ++j) {
    for (std::size_t i = 0; i < dim; ++i) scores[j] += double{query[i]} * keys[j * dim + i];
    scores[j] /= std::sqrt(static_cast<double>(dim));
  }
  const std::vector<double> weights = softmax(scores);
  std::vector<double> out(dim);
  for (std::size_t j = 0; j < length; ++j) {
    for (std::size_t i = 0; i < dim; ++i) out[i] += weights[j] * values[j * dim + i];
  }
  return out;
}

std::vector<double> expert(std::span<const double> gate, std::span<const double> up, std::span<const double> down,
                           std::span<const float> x) {
  const std::vector<double> g = multiply(gate, x), u = multiply(up, x);
  const std::size_t ff = g.size();
  std::vector<double> y(down.size() / ff);
  for (std::size_t row = 0; row < y.size(); ++row) {
    for (std::size_t i = 0; i < ff; ++i) y[row] += down[row * ff + i] * silu(g[i]) * u[i];
  }
  return y;
}

}  // namespace expertscope::reference
