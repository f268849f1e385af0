#include "engine/learn/routing_path_training.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/error.h"
#include "engine/learn/routing_path_network.h"
#include "engine/model/elementary.h"
#include "engine/model/kernels.h"
#include "engine/synth/random.h"

namespace expertscope {
namespace {

constexpr std::size_t kBatch = 256;
constexpr int kWidestBasis = 256;
constexpr std::uint64_t kDirections = 1, kTraining = 2;  // streams of random numbers

std::size_t size(std::int64_t n) {
  return static_cast<std::size_t>(n);
}

// The model's token embeddings, each with a mean square of 1; wider ones thrown on 256 random directions, which keeps
// their angles nearly.
class EmbeddingBasis {
 public:
  EmbeddingBasis(const Model& model, ThreadPool& pool, std::uint64_t seed) {
    const ModelDescription& d = model.description();
    width_ = std::min(d.width, kWidestBasis);
    rows_.resize(size(d.vocab) * size(width_));
    const std::vector<float> directions = d.width > kWidestBasis ? random_signs(d.width, seed) : std::vector<float>();
    constexpr int kRowsPerItem = 64;
    pool.parallel_for((d.vocab + kRowsPerItem - 1) / kRowsPerItem, [&](int item, int) {
      std::vector<float> whole(size(d.width));
      for (int id = item * kRowsPerItem; id < std::min(d.vocab, (item + 1) * kRowsPerItem); ++id) {
        dequantise_row(model.embedding().view(), id, whole.data());
        float* out = rows_.data() + size(id) * size(width_);
        if (directions.empty()) std::copy(whole.begin(), whole.end(), out);
        for (std::size_t i = 0; i < (directions.empty() ? 0 : whole.size()); ++i)
          for (std::size_t j = 0; j < size(width_); ++j) out[j] += whole[i] * directions[i * size(width_) + j];
        normalise({out, size(width_)});
      }
    });
  }

  int width() const { return width_; }
  const float* row(std::int32_t id) const { return rows_.data() + size(id) * size(width_); }

 private:
  static std::vector<float> random_signs(int rows, std::uint64_t seed) {
    const CounterRandom random(seed, kDirections);
    std::vector<float> signs(size(rows) * kWidestBasis);
    for (std::size_t i = 0; i < signs.size(); ++i) signs[i] = (random.at(i) & 1) != 0 ? 1.0F : -1.0F;
    return signs;
  }

  static void normalise(std::span<float> row) {
    float squares = 0;
    for (float v : row) squares += v * v;
    const float scale = squares > 0 ? 1 / std::sqrt(squares / static_cast<float>(row.size())) : 0;
    for (float& v : row) v *= scale;
  }

  int width_ = 0;
  std::vector<float> rows_;
};

// Every token to learn from, with what it is predicted from.
struct Samples {
  Samples(const RecordedTexts& texts, const EmbeddingBasis& basis, const RoutingPathRule& rule) {
    const std::size_t width = size(basis.width()), of_token = size(texts.layers) * size(texts.top_k);
    std::size_t count = 0;
    for (const RecordedText& text : texts.texts) count += text.ids.size();
    means.resize(count * rule.decays.size() * width);
    std::size_t number = 0;
    for (const RecordedText& text : texts.texts) {
      const float* before = nullptr;  // the means before the token
      for (std::size_t t = 0; t < text.ids.size(); ++t, ++number) {
        float* now = means.data() + number * rule.decays.size() * width;
        RoutingPathSample sample;
        for (std::size_t back = 0; back < size(rule.recent); ++back)
          sample.inputs.push_back(back <= t ? basis.row(text.ids[t - back]) : nullptr);
        for (std::size_t m = 0; m < rule.decays.size(); ++m) {
          const auto keep = static_cast<float>(rule.decays[m]);
          for (std::size_t i = 0; i < width; ++i)
            now[m * width + i] =
                (before != nullptr ? keep * before[m * width + i] : 0.0F) + (1 - keep) * sample.inputs[0][i];
          sample.inputs.push_back(now + m * width);
        }
        before = now;
        sample.picks = std::span(text.picks).subspan(t * of_token, of_token);
        if (text.first_of_prompt || t >= text.prompt_tokens) all.push_back(std::move(sample));
      }
    }
  }

  std::vector<float> means;
  std::vector<RoutingPathSample> all;
};

// What popularity alone would say, so that training starts there: log-odds, one token more for every expert.
std::vector<float> log_odds(std::span<const RoutingPathSample> samples, const RecordedTexts& texts) {
  std::vector<double> count(size(texts.layers) * size(texts.experts), 1.0);
  for (const RoutingPathSample& s : samples)
    for (std::size_t i = 0; i < s.picks.size(); ++i)
      count[i / size(texts.top_k) * size(texts.experts) + s.picks[i]] += 1;
  std::vector<float> out;
  for (double c : count)
    out.push_back(static_cast<float>(log_f64(c / (static_cast<double>(samples.size()) + 2 - c + 1))));
  return out;
}

void shuffle(std::vector<std::size_t>& order, const CounterRandom& random, std::uint64_t& drawn) {
  for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.at(drawn++) % i]);
}

ByteMatrix to_bytes(std::span<const float> values, int columns) {
  ByteMatrix m{.rows = static_cast<int>(values.size() / size(columns)), .columns = columns, .scale = {}, .q = {}};
  std::vector<float> largest(size(columns));
  for (std::size_t i = 0; i < values.size(); ++i) {
    float& l = largest[i % size(columns)];
    l = std::max(l, std::abs(values[i]));
  }
  for (float l : largest) m.scale.push_back(l > 0 ? l / 127 : 1);
  for (std::size_t i = 0; i < values.size(); ++i)
    m.q.push_back(
        static_cast<std::int8_t>(std::clamp(std::nearbyint(values[i] / m.scale[i % size(columns)]), -127.0F, 127.0F)));
  return m;
}

// Every token's row of the basis, projected.
ByteMatrix project(const EmbeddingBasis& basis, int vocab, std::span<const float> projection, int width) {
  std::vector<float> table(size(vocab) * size(width));
  for (int id = 0; id < vocab; ++id) {
    float* out = table.data() + size(id) * size(width);
    const float* row = basis.row(id);
    for (std::size_t i = 0; i < size(basis.width()); ++i)
      for (std::size_t j = 0; j < size(width); ++j) out[j] += row[i] * projection[i * size(width) + j];
  }
  return to_bytes(table, width);
}

}  // namespace

RoutingPathWeights train_routing_path(const Model& model, ThreadPool& pool, const RecordedTexts& texts,
                                      const RoutingPathRule& rule, const LearnProgress& progress) {
  const EmbeddingBasis basis(model, pool, rule.seed);
  const Samples samples(texts, basis, rule);
  RoutingPathNetwork network({.basis = basis.width(),
                              .inputs = rule.recent + static_cast<int>(rule.decays.size()),
                              .width = rule.width,
                              .hidden = rule.hidden,
                              .layers = texts.layers,
                              .experts = texts.experts,
                              .top_k = texts.top_k},
                             log_odds(samples.all, texts), rule.seed);
  const CounterRandom random(rule.seed, kTraining);
  std::uint64_t drawn = 0;
  std::vector<std::size_t> order(samples.all.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto all = static_cast<std::int64_t>(order.size()) * rule.epochs;
  std::vector<RoutingPathSample> batch;
  std::int64_t done = 0;
  for (int epoch = 0; epoch < rule.epochs; ++epoch) {
    shuffle(order, random, drawn);
    for (std::size_t first = 0; first < order.size(); first += kBatch) {
      batch.clear();
      for (std::size_t i = first; i < std::min(order.size(), first + kBatch); ++i) {
        batch.push_back(samples.all[order[i]]);
        for (const float*& input : batch.back().inputs)
          if (static_cast<double>(random.at(drawn++) >> 11) * 0x1p-53 < rule.dropout) input = nullptr;
      }
      // The cosine is that of our own functions: libm's differ.
      double sine = 0, cosine = 0;
      sincos_f64(3.14159265358979323846 * static_cast<double>(done) / static_cast<double>(all), sine, cosine);
      network.train(batch, pool, rule.rate * (1 + cosine) / 2, rule.decay);
      done += static_cast<std::int64_t>(batch.size());
      if (progress && !progress(done, all)) throw RunError("learning was interrupted");
    }
  }
  // All inputs are there when it runs, so each counts for less.
  std::vector<float> input(network.input().begin(), network.input().end());
  for (float& w : input) w *= static_cast<float>(1 - rule.dropout);
  return {.recent = rule.recent,
          .decays = rule.decays,
          .embedding = project(basis, model.description().vocab, network.projection(), rule.width),
          .input = to_bytes(input, rule.hidden),
          .input_bias = {network.input_bias().begin(), network.input_bias().end()},
          .output = to_bytes(network.output(), texts.layers * texts.experts),
          .output_bias = {network.output_bias().begin(), network.output_bias().end()}};
}

}  // namespace expertscope
