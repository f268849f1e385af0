#include "engine/learn/prediction_recall.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <optional>

#include "engine/policy/routing_path.h"

namespace expertscope {
namespace {

std::size_t size(std::int64_t n) {
  return static_cast<std::size_t>(n);
}

// Counts picks that are among the k best of some scores, by layer.
class RecallCount {
 public:
  explicit RecallCount(const RecordedTexts& texts)
      : texts_(texts), found_(size(texts.layers)), order_(size(texts.experts)) {}

  // `scores` has one entry per expert; ties go to the lower expert.
  template <typename Scores>
  void add(const RecordedText& text, std::size_t token, int layer, const Scores& scores) {
    const auto k = static_cast<std::ptrdiff_t>(texts_.top_k);
    std::iota(order_.begin(), order_.end(), std::uint16_t{0});
    std::partial_sort(order_.begin(), order_.begin() + k, order_.end(), [&](std::uint16_t a, std::uint16_t b) {
      return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
    });
    for (std::uint16_t pick : texts_.picks(text, token, layer))
      found_[size(layer)] += std::find(order_.begin(), order_.begin() + k, pick) != order_.begin() + k;
  }

  const std::vector<std::int64_t>& found() const { return found_; }

 private:
  const RecordedTexts& texts_;
  std::vector<std::int64_t> found_;
  std::vector<std::uint16_t> order_;
};

PredictionRecall summary(const RecordedTexts& texts, std::string name, const std::vector<std::int64_t>& found,
                         int first_layer) {
  PredictionRecall out{.predictor = std::move(name), .by_layer = {}};
  for (int l = 0; l < texts.layers; ++l) {
    const double share =
        static_cast<double>(found[size(l)]) / (static_cast<double>(texts.forwarded) * static_cast<double>(texts.top_k));
    out.by_layer.push_back(l < first_layer ? 0 : share);
    if (l >= first_layer) out.mean += share / (texts.layers - first_layer);
  }
  return out;
}

}  // namespace

std::vector<PredictionRecall> judge_predictions(const Prior& prior, const RecordedTexts& texts) {
  RecallCount popularity(texts), transitions(texts), path(texts);
  std::optional<RoutingPath> predictor;
  if (prior.has_routing_path()) predictor.emplace(prior.routing_path);
  std::vector<double> sums(size(texts.experts));
  for (const RecordedText& text : texts.texts) {
    RoutingPath::Text so_far;
    if (predictor) so_far = predictor->begin();
    for (std::size_t t = 0; t < text.ids.size(); ++t) {
      std::span<const float> forecast;
      if (predictor) {
        predictor->add(so_far, text.ids[t]);
        forecast = predictor->probabilities(so_far);
      }
      for (int l = 0; l < texts.layers; ++l) {
        popularity.add(text, t, l, prior.popularity[size(l)]);
        if (predictor) path.add(text, t, l, forecast.subspan(size(l) * size(texts.experts), size(texts.experts)));
        if (l == 0 || !prior.has_transitions()) continue;
        std::fill(sums.begin(), sums.end(), 0.0);
        for (std::uint16_t from : texts.picks(text, t, l - 1))
          for (int e = 0; e < texts.experts; ++e) sums[size(e)] += prior.transition(l - 1, from, e);
        transitions.add(text, t, l, sums);
      }
    }
  }
  std::vector<PredictionRecall> out = {summary(texts, "popularity", popularity.found(), 0)};
  if (prior.has_transitions()) out.push_back(summary(texts, "transitions", transitions.found(), 1));
  out.push_back(summary(texts, "gate ahead", texts.lookahead_found[0], 1));
  if (predictor) out.push_back(summary(texts, "routing path", path.found(), 0));
  return out;
}

}  // namespace expertscope
