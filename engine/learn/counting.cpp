#include "engine/learn/counting.h"

#include <algorithm>
#include <cmath>

namespace expertscope {
namespace {

constexpr std::size_t kQuantiles = 33;

std::size_t size(std::int64_t n) {
  return static_cast<std::size_t>(n);
}

double rounded(double share) {
  return std::round(share * 1e6) / 1e6;
}

class RouteCounts {
 public:
  explicit RouteCounts(const RecordedTexts& texts)
      : texts_(texts),
        experts_(size(texts.layers) * size(texts.experts)),
        picks_{std::vector<std::int64_t>(experts_), std::vector<std::int64_t>(experts_)},
        transitions_(kPriorTransitions, std::vector<std::int64_t>(experts_ * size(texts.experts))),
        weights_(size(texts.layers) * size(texts.top_k - 1)) {
    for (const RecordedText& text : texts_.texts) {
      for (std::size_t t = text.first_of_prompt ? 0 : text.prompt_tokens; t < text.ids.size(); ++t) add(text, t);
    }
  }

  void fill(Prior& prior) const {
    prior.layers = texts_.layers;
    prior.experts = texts_.experts;
    prior.prefill_tokens = tokens_[0];
    prior.decode_tokens = tokens_[1];
    std::vector<std::int64_t> both(picks_[0]);
    for (std::size_t i = 0; i < experts_; ++i) both[i] += picks_[1][i];
    prior.popularity = shares(both, tokens_[0] + tokens_[1]);
    if (tokens_[0] > 0) prior.popularity_prefill = shares(picks_[0], tokens_[0]);
    if (tokens_[1] > 0) prior.popularity_decode = shares(picks_[1], tokens_[1]);
    fill_transitions(prior, both);
    fill_activations(prior);
    fill_lookahead(prior);
    fill_quantiles(prior);
  }

 private:
  void add(const RecordedText& text, std::size_t t) {
    const std::size_t phase = t < text.prompt_tokens ? 0 : 1, k = size(texts_.top_k);
    ++tokens_[phase];
    for (int l = 0; l < texts_.layers; ++l) {
      const std::span<const std::uint16_t> picks = texts_.picks(text, t, l);
      for (std::uint16_t e : picks) ++picks_[phase][index(l, e)];
      for (int d = 1; d <= kPriorTransitions && l + d < texts_.layers; ++d) {
        for (std::uint16_t from : picks)
          for (std::uint16_t to : texts_.picks(text, t, l + d))
            ++transitions_[size(d - 1)][index(l, from) * size(texts_.experts) + to];
      }
      const auto first = (t * size(texts_.layers) + size(l)) * k;
      for (std::size_t rank = 1; rank < k; ++rank)
        weights_[size(l) * (k - 1) + rank - 1].push_back(text.weights[first + rank]);
    }
  }

  std::size_t index(int layer, std::uint16_t expert) const { return size(layer) * size(texts_.experts) + expert; }

  std::vector<std::vector<double>> shares(const std::vector<std::int64_t>& picks, std::int64_t tokens) const {
    std::vector<std::vector<double>> out(size(texts_.layers));
    for (std::size_t i = 0; i < picks.size(); ++i)
      out[i / size(texts_.experts)].push_back(
          rounded(static_cast<double>(picks[i]) / (static_cast<double>(tokens) * texts_.top_k)));
    return out;
  }

  // An expert that no token picked passes on to all alike: the popularity of the layer behind.
  void fill_transitions(Prior& prior, const std::vector<std::int64_t>& picks) const {
    const std::size_t experts = size(texts_.experts);
    for (int d = 1; d <= kPriorTransitions; ++d) {
      std::vector<std::uint16_t>& out = prior.transitions.emplace_back();
      for (std::size_t from = 0; from < size(std::max(0, texts_.layers - d)) * experts; ++from) {
        for (std::size_t to = 0; to < experts; ++to) {
          const double share =
              picks[from] > 0
                  ? static_cast<double>(transitions_[size(d - 1)][from * experts + to]) /
                        static_cast<double>(picks[from])
                  : std::min(1.0, prior.popularity[from / experts + size(d)][to] * static_cast<double>(texts_.top_k));
          out.push_back(static_cast<std::uint16_t>(std::lround(share * 65535)));
        }
      }
    }
  }

  // One matrix a prompt: its own tokens, and those of all its continuations.
  void fill_activations(Prior& prior) const {
    for (const RecordedText& text : texts_.texts) {
      if (text.first_of_prompt)
        prior.activations.push_back(
            {.prefill = std::vector<std::uint16_t>(experts_), .decode = std::vector<std::uint16_t>(experts_)});
      ActivationMatrix& m = prior.activations.back();
      for (std::size_t t = text.first_of_prompt ? 0 : text.prompt_tokens; t < text.ids.size(); ++t) {
        std::vector<std::uint16_t>& counts = t < text.prompt_tokens ? m.prefill : m.decode;
        for (int l = 0; l < texts_.layers; ++l)
          for (std::uint16_t e : texts_.picks(text, t, l))
            if (counts[index(l, e)] < 65535) ++counts[index(l, e)];
      }
    }
  }

  void fill_lookahead(Prior& prior) const {
    for (const std::vector<std::int64_t>& found : texts_.lookahead_found) {
      std::vector<double>& recall = prior.lookahead_recall.emplace_back();
      for (std::int64_t f : found)
        recall.push_back(rounded(static_cast<double>(f) / (static_cast<double>(texts_.forwarded) * texts_.top_k)));
    }
  }

  void fill_quantiles(Prior& prior) const {
    const std::size_t ranks = size(texts_.top_k - 1);
    if (ranks == 0) return;
    for (std::size_t l = 0; l < size(texts_.layers); ++l) {
      std::vector<std::vector<double>>& layer = prior.weight_quantiles.emplace_back();
      for (std::size_t r = 0; r < ranks; ++r) {
        std::vector<float> sorted = weights_[l * ranks + r];
        std::sort(sorted.begin(), sorted.end());
        std::vector<double>& quantiles = layer.emplace_back();
        for (std::size_t q = 0; q < kQuantiles; ++q)
          quantiles.push_back(
              std::clamp(rounded(static_cast<double>(sorted[q * (sorted.size() - 1) / (kQuantiles - 1)])), 0.0, 1.0));
      }
    }
  }

  const RecordedTexts& texts_;
  std::size_t experts_;
  std::int64_t tokens_[2] = {0, 0};                     // by phase: of prompts, generated
  std::vector<std::int64_t> picks_[2];                  // [layer * experts + expert]
  std::vector<std::vector<std::int64_t>> transitions_;  // [d - 1][from * experts + to]
  std::vector<std::vector<float>> weights_;             // [layer * (top_k - 1) + rank - 2]
};

}  // namespace

void count_routes(const RecordedTexts& texts, Prior& prior) {
  RouteCounts(texts).fill(prior);
}

}  // namespace expertscope
