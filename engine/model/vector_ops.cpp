// The kernels of the forward pass that are not products with weights.
#include <algorithm>
#include <cmath>

#include "engine/model/elementary.h"
#include "engine/model/kernels.h"
#include "engine/model/simd.h"

namespace expertscope {

using simd::kLanes;
using simd::load;
using simd::set;
using simd::store;
using simd::Vec;
namespace hn = simd::hn;

void rms_norm(const float* x, const float* weight, float eps, int n, float* y) {
  Vec squares = set(0);
  for (int i = 0; i < n; i += kLanes) squares = hn::MulAdd(load(x + i), load(x + i), squares);
  const float mean = simd::sum(squares) / static_cast<float>(n);
  const Vec factor = set(1.0f / std::sqrt(mean + eps));
  for (int i = 0; i < n; i += kLanes) store(hn::Mul(hn::Mul(load(x + i), factor), load(weight + i)), y + i);
}

namespace {

// exp(values - max) in place; returns their sum. Entries up to the next multiple of 8 become 0.
float exp_and_sum(float* values, int n) {
  const int padded = (n + kLanes - 1) / kLanes * kLanes;
  for (int i = n; i < padded; ++i) values[i] = -1e30f;
  Vec largest = load(values);
  for (int i = kLanes; i < padded; i += kLanes) largest = hn::Max(largest, load(values + i));
  largest = hn::MaxOfLanes(simd::Floats(), largest);
  Vec sums = set(0);
  for (int i = 0; i < padded; i += kLanes) {
    const Vec e = simd::exp(hn::Sub(load(values + i), largest));
    store(e, values + i);
    sums = hn::Add(sums, e);
  }
  return simd::sum(sums);
}

// scores[j] = factor * query . keys[j]
void score(const float* query, const float* keys, int length, int head_dim, float factor, float* scores) {
  const simd::QuadVec scale = hn::Set(simd::Quad(), factor);
  int j = 0;
  for (; j + 4 <= length; j += 4) {
    const float* key = keys + static_cast<std::ptrdiff_t>(j) * head_dim;
    Vec a = set(0), b = a, c = a, d = a;
    for (int i = 0; i < head_dim; i += kLanes) {
      const Vec q = load(query + i);
      a = hn::MulAdd(q, load(key + i), a);
      b = hn::MulAdd(q, load(key + head_dim + i), b);
      c = hn::MulAdd(q, load(key + 2 * head_dim + i), c);
      d = hn::MulAdd(q, load(key + 3 * head_dim + i), d);
    }
    hn::StoreU(hn::Mul(simd::sum4(a, b, c, d), scale), simd::Quad(), scores + j);
  }
  for (; j < length; ++j) {
    const float* key = keys + static_cast<std::ptrdiff_t>(j) * head_dim;
    Vec a = set(0);
    for (int i = 0; i < head_dim; i += kLanes) a = hn::MulAdd(load(query + i), load(key + i), a);
    scores[j] = simd::sum(a) * factor;
  }
}

// out[Vectors * 8] = factor * sum over j of weights[j] * values[j], positions in order.
template <int Vectors>
void weighted_sum(const float* weights, const float* values, int length, int stride, float factor, float* out) {
  Vec sums[Vectors];
  for (Vec& s : sums) s = set(0);
  for (int j = 0; j < length; ++j) {
    const Vec weight = set(weights[j]);
    const float* value = values + static_cast<std::ptrdiff_t>(j) * stride;
    for (int v = 0; v < Vectors; ++v) sums[v] = hn::MulAdd(weight, load(value + v * kLanes), sums[v]);
  }
  for (int v = 0; v < Vectors; ++v) store(hn::Mul(sums[v], set(factor)), out + v * kLanes);
}

}  // namespace

void softmax(float* values, int n) {
  const float sum = exp_and_sum(values, n);
  for (int i = 0; i < n; ++i) values[i] /= sum;
}

void attend(const float* query, const float* keys, const float* values, int length, int head_dim, float* scores,
            float* out) {
  score(query, keys, length, head_dim, 1.0f / std::sqrt(static_cast<float>(head_dim)), scores);
  const float factor = 1.0f / exp_and_sum(scores, length);
  int i = 0;
  for (; i + 64 <= head_dim; i += 64) weighted_sum<8>(scores, values + i, length, head_dim, factor, out + i);
  for (; i < head_dim; i += kLanes) weighted_sum<1>(scores, values + i, length, head_dim, factor, out + i);
}

std::vector<double> rope_frequencies(const RopeRule& rule) {
  std::vector<double> frequencies(static_cast<std::size_t>(rule.dims / 2));
  const double log_base = log_f64(rule.base);
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    frequencies[i] = exp_f64(-2.0 * static_cast<double>(i) / rule.dims * log_base);
  }
  return frequencies;
}

void rope_angles(std::span<const double> frequencies, int position, float* cosine, float* sine) {
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    double s, c;
    sincos_f64(position * frequencies[i], s, c);
    cosine[i] = static_cast<float>(c);
    sine[i] = static_cast<float>(s);
  }
}

void rope_rotate(RopeStyle style, int dims, const float* cosine, const float* sine, float* head) {
  const int half = dims / 2;
  const int step = style == RopeStyle::interleaved ? 2 : 1;      // from one pair's first value to the next pair's
  const int apart = style == RopeStyle::interleaved ? 1 : half;  // from a pair's first value to its second
  for (int i = 0; i < half; ++i) {
    float& first = head[i * step];
    float& second = head[i * step + apart];
    const float a = first, b = second;
    first = a * cosine[i] - b * sine[i];
    second = a * sine[i] + b * cosine[i];
  }
}

void add(const float* a, int n, float* x) {
  for (int i = 0; i < n; i += kLanes) store(hn::Add(load(x + i), load(a + i)), x + i);
}

void scale(const float* a, float factor, int n, float* x) {
  for (int i = 0; i < n; i += kLanes) store(hn::Mul(set(factor), load(a + i)), x + i);
}

void add_scaled(const float* a, float factor, int n, float* x) {
  for (int i = 0; i < n; i += kLanes) store(hn::MulAdd(set(factor), load(a + i), load(x + i)), x + i);
}

}  // namespace expertscope
