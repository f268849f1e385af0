#include "engine/policy/routing_path.h"

#include <algorithm>

#include "engine/assert.h"
#include "engine/model/elementary.h"

namespace expertscope {
namespace {

std::vector<float> multiplied_out(const ByteMatrix& m) {
  std::vector<float> out(m.q.size());
  const std::size_t columns = m.scale.size();
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(m.q[i]) * m.scale[i % columns];
  return out;
}

// y += x W, W row-major.
void multiply_add(std::span<const float> x, const float* w, std::span<float> y) {
  for (const float factor : x) {
    if (factor != 0)
      for (std::size_t j = 0; j < y.size(); ++j) y[j] += factor * w[j];
    w += y.size();
  }
}

}  // namespace

RoutingPath::RoutingPath(const RoutingPathWeights& weights)
    : weights_(weights),
      input_(multiplied_out(weights.input)),
      output_(multiplied_out(weights.output)),
      hidden_(weights.input_bias.size()),
      result_(weights.output_bias.size()) {
  ES_ASSERT(weights.recent > 0, "a predictor that was learned");
}

RoutingPath::Text RoutingPath::begin() const {
  const std::size_t width = weights_.embedding.scale.size();
  return {.recent = std::vector<float>(static_cast<std::size_t>(weights_.recent) * width),
          .means = std::vector<float>(weights_.decays.size() * width)};
}

void RoutingPath::add(Text& text, std::int32_t id) const {
  const ByteMatrix& table = weights_.embedding;
  const std::size_t width = table.scale.size();
  std::copy_backward(text.recent.begin(), text.recent.end() - static_cast<std::ptrdiff_t>(width), text.recent.end());
  const bool known = id >= 0 && id < table.rows;
  for (std::size_t i = 0; i < width; ++i)
    text.recent[i] = known ? static_cast<float>(table.q[static_cast<std::size_t>(id) * width + i]) * table.scale[i] : 0;
  for (std::size_t m = 0; m < weights_.decays.size(); ++m) {
    const auto keep = static_cast<float>(weights_.decays[m]);
    for (std::size_t i = 0; i < width; ++i) {
      float& mean = text.means[m * width + i];
      mean = keep * mean + (1 - keep) * text.recent[i];
    }
  }
}

std::span<const float> RoutingPath::probabilities(const Text& text) {
  std::copy(weights_.input_bias.begin(), weights_.input_bias.end(), hidden_.begin());
  multiply_add(text.recent, input_.data(), hidden_);
  multiply_add(text.means, input_.data() + text.recent.size() * hidden_.size(), hidden_);
  for (float& h : hidden_) h = std::max(0.0F, h);
  std::copy(weights_.output_bias.begin(), weights_.output_bias.end(), result_.begin());
  multiply_add(hidden_, output_.data(), result_);
  for (float& r : result_) r = 1 / (1 + exp_f32(-r));
  return result_;
}

}  // namespace expertscope
