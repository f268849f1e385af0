#include "engine/learn/routing_path_network.h"

#include <algorithm>
#include <cmath>

#include "engine/model/elementary.h"
#include "engine/synth/random.h"

namespace expertscope {
namespace {

std::size_t size(std::int64_t n) {
  return static_cast<std::size_t>(n);
}

// y += factor * x. Sums run over rows, never along them: so they can be vectorised without changing their order.
void add_scaled(float factor, const float* x, std::size_t n, float* y) {
  for (std::size_t i = 0; i < n; ++i) y[i] += factor * x[i];
}

// y += x W
void multiply_add(std::span<const float> x, const float* w, std::span<float> y) {
  for (const float factor : x) {
    if (factor != 0) add_scaled(factor, w, y.size(), y.data());
    w += y.size();
  }
}

// W += outer product of x and y
void add_outer(std::span<const float> x, std::span<const float> y, float* w) {
  for (const float factor : x) {
    if (factor != 0) add_scaled(factor, y.data(), y.size(), w);
    w += y.size();
  }
}

void transpose(std::span<const float> from, std::size_t rows, std::vector<float>& to) {
  const std::size_t columns = from.size() / rows;
  to.resize(from.size());
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < columns; ++c) to[c * rows + r] = from[r * columns + c];
}

}  // namespace

struct RoutingPathNetwork::Shard {
  std::vector<float> gradient;                   // of all weights
  std::vector<float> embedded, hidden, outputs;  // of one sample
  std::vector<float> d_embedded, d_hidden;
};

RoutingPathNetwork::~RoutingPathNetwork() = default;

RoutingPathNetwork::RoutingPathNetwork(const RoutingPathSizes& sizes, std::span<const float> output_bias,
                                       std::uint64_t seed)
    : sizes_(sizes), shards_(kShards) {
  const std::size_t embedded = size(sizes.inputs) * size(sizes.width), outputs = output_bias.size();
  const std::size_t counts[5] = {size(sizes.basis) * size(sizes.width), embedded * size(sizes.hidden),
                                 size(sizes.hidden), size(sizes.hidden) * outputs, outputs};
  begin_[0] = 0;
  for (std::size_t p = 0; p < 5; ++p) begin_[p + 1] = begin_[p] + counts[p];
  weights_.resize(begin_[5]);
  first_moment_.resize(weights_.size());
  second_moment_.resize(weights_.size());
  // Each sum starts with a variance of about 1.
  const CounterRandom random(seed, 0);
  const std::size_t fan_in[5] = {size(sizes.basis), embedded, 0, size(sizes.hidden), 0};
  for (std::size_t p : {0, 1, 3}) {
    const double reach = std::sqrt(3.0 / static_cast<double>(fan_in[p]));
    for (std::size_t i = begin_[p]; i < begin_[p + 1]; ++i)
      weights_[i] = static_cast<float>((static_cast<double>(random.at(i) >> 11) * 0x1p-52 - 1) * reach);
  }
  std::copy(output_bias.begin(), output_bias.end(), weights_.begin() + static_cast<std::ptrdiff_t>(begin_[4]));
  for (Shard& s : shards_) {
    s.embedded.resize(embedded);
    s.d_embedded.resize(embedded);
    s.hidden.resize(size(sizes.hidden));
    s.d_hidden.resize(s.hidden.size());
    s.outputs.resize(outputs);
  }
}

std::span<const float> RoutingPathNetwork::part(int number) const {
  const std::size_t p = size(number);
  return std::span(weights_).subspan(begin_[p], begin_[p + 1] - begin_[p]);
}

void RoutingPathNetwork::train(std::span<const RoutingPathSample> batch, ThreadPool& pool, double rate, double decay) {
  transpose(input(), size(sizes_.inputs) * size(sizes_.width), input_transposed_);
  transpose(output(), size(sizes_.hidden), output_transposed_);
  pool.parallel_for(kShards, [&](int shard, int) {
    const std::size_t begin = batch.size() * size(shard) / kShards, end = batch.size() * size(shard + 1) / kShards;
    run(batch.subspan(begin, end - begin), shards_[size(shard)]);
  });
  update(rate, decay, batch.size());
}

void RoutingPathNetwork::run(std::span<const RoutingPathSample> samples, Shard& s) const {
  const std::size_t width = size(sizes_.width);
  s.gradient.assign(weights_.size(), 0);
  for (const RoutingPathSample& sample : samples) {
    std::fill(s.embedded.begin(), s.embedded.end(), 0.0F);
    for (std::size_t i = 0; i < sample.inputs.size(); ++i) {
      if (sample.inputs[i] == nullptr) continue;
      multiply_add({sample.inputs[i], size(sizes_.basis)}, projection().data(),
                   std::span(s.embedded).subspan(i * width, width));
    }
    std::copy(input_bias().begin(), input_bias().end(), s.hidden.begin());
    multiply_add(s.embedded, input().data(), s.hidden);
    for (float& h : s.hidden) h = std::max(0.0F, h);
    std::copy(output_bias().begin(), output_bias().end(), s.outputs.begin());
    multiply_add(s.hidden, output().data(), s.outputs);
    backward(sample, s);
  }
}

// Binary cross-entropy is -log p of a pick and -log(1 - p) of any other expert; its slope by the output is p - r.
void RoutingPathNetwork::backward(const RoutingPathSample& sample, Shard& s) const {
  const std::size_t width = size(sizes_.width), k = size(sizes_.top_k), experts = size(sizes_.experts);
  for (float& y : s.outputs) y = 1 / (1 + exp_f32(-y));
  for (std::size_t i = 0; i < sample.picks.size(); ++i) s.outputs[i / k * experts + sample.picks[i]] -= 1;

  add_outer(s.hidden, s.outputs, s.gradient.data() + begin_[3]);
  add_scaled(1, s.outputs.data(), s.outputs.size(), s.gradient.data() + begin_[4]);
  std::fill(s.d_hidden.begin(), s.d_hidden.end(), 0.0F);
  multiply_add(s.outputs, output_transposed_.data(), s.d_hidden);
  for (std::size_t j = 0; j < s.hidden.size(); ++j)
    if (s.hidden[j] <= 0) s.d_hidden[j] = 0;
  add_outer(s.embedded, s.d_hidden, s.gradient.data() + begin_[1]);
  add_scaled(1, s.d_hidden.data(), s.d_hidden.size(), s.gradient.data() + begin_[2]);
  std::fill(s.d_embedded.begin(), s.d_embedded.end(), 0.0F);
  multiply_add(s.d_hidden, input_transposed_.data(), s.d_embedded);
  for (std::size_t i = 0; i < sample.inputs.size(); ++i) {
    if (sample.inputs[i] == nullptr) continue;
    add_outer({sample.inputs[i], size(sizes_.basis)}, std::span(s.d_embedded).subspan(i * width, width),
              s.gradient.data() + begin_[0]);
  }
}

// Adam with decoupled decay of weights (biases keep theirs).
void RoutingPathNetwork::update(double rate, double decay, std::size_t batch) {
  constexpr double kFirst = 0.9, kSecond = 0.999, kSmall = 1e-8;
  const float scale = 1 / static_cast<float>(batch);
  first_power_ *= kFirst;
  second_power_ *= kSecond;
  const auto step = static_cast<float>(rate / (1 - first_power_));
  const auto second_scale = static_cast<float>(1 / (1 - second_power_));
  for (std::size_t p = 0; p < 5; ++p) {
    const float keep = p == 2 || p == 4 ? 1.0F : static_cast<float>(1 - rate * decay);
    for (std::size_t i = begin_[p]; i < begin_[p + 1]; ++i) {
      float g = 0;
      for (const Shard& s : shards_) g += s.gradient[i];
      g *= scale;
      first_moment_[i] += static_cast<float>(1 - kFirst) * (g - first_moment_[i]);
      second_moment_[i] += static_cast<float>(1 - kSecond) * (g * g - second_moment_[i]);
      weights_[i] = keep * weights_[i] - step * first_moment_[i] /
                                             (std::sqrt(second_moment_[i] * second_scale) + static_cast<float>(kSmall));
    }
  }
}

}  // namespace expertscope
