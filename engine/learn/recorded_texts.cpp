#include "engine/learn/recorded_texts.h"

#include <algorithm>
#include <array>

#include "engine/error.h"
#include "engine/learn/forward_pass.h"
#include "engine/model/sampler.h"

namespace expertscope {
namespace {

constexpr int kChunk = 256;    // tokens of one step while prompts are read
constexpr int kTogether = 32;  // texts that are continued in one step

std::size_t size(std::int64_t n) {
  return static_cast<std::size_t>(n);
}

class Recording {
 public:
  Recording(const Model& model, ThreadPool& pool, std::span<const std::vector<std::int32_t>> prompts,
            const RecordingRule& rule, const LearnProgress& progress)
      : model_(model),
        rule_(rule),
        progress_(progress),
        pass_(model, pool, std::max(kChunk, kTogether), kTogether),
        logits_(size(model.description().router.experts)),
        order_(logits_.size()) {
    const ModelDescription& d = model.description();
    out_.layers = d.layers;
    out_.experts = d.router.experts;
    out_.top_k = d.router.top_k;
    out_.lookahead_found.assign(kMaxLookahead, std::vector<std::int64_t>(size(d.layers)));
    pass_.set_watch([this](int layer, std::span<const RouteRecord> routes) { watch(layer, routes); });
    for (std::size_t p = 0; p < prompts.size(); ++p) add_texts(p, prompts[p]);
  }

  RecordedTexts run() {
    for (std::size_t first = 0; first < out_.texts.size(); first += kTogether) {
      const std::size_t count = std::min<std::size_t>(kTogether, out_.texts.size() - first);
      for (std::size_t s = 0; s < count; ++s) read_prompt(first + s, static_cast<int>(s));
      for (int n = 0; n < rule_.generate; ++n) decode(first, count);
    }
    return std::move(out_);
  }

 private:
  void add_texts(std::size_t prompt, const std::vector<std::int32_t>& ids) {
    const std::size_t room = size(model_.description().context - rule_.generate);
    if (ids.size() > room) ++out_.cut_prompts;
    for (int c = 0; c < std::max(1, rule_.generate > 0 ? rule_.continuations : 1); ++c) {
      RecordedText& text = out_.texts.emplace_back();
      text.prompt = prompt;
      text.first_of_prompt = c == 0;
      text.ids.assign(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(std::min(room, ids.size())));
      text.prompt_tokens = text.ids.size();
      all_ += static_cast<std::int64_t>(text.ids.size()) + rule_.generate;
      samplers_.emplace_back(SamplingRule{
          .temperature = rule_.temperature, .top_p = 1, .seed = rule_.seed + 0x9e3779b97f4a7c15U * out_.texts.size()});
    }
  }

  void read_prompt(std::size_t text, int sequence) {
    pass_.reset_sequence(sequence);
    RecordedText& t = out_.texts[text];
    const std::vector<std::int32_t> ids = t.ids;
    in_step_ = {text};
    pass_.forward(sequence, ids, false, [&](std::size_t first, std::size_t count) {
      advance(count);
      if (first + count == ids.size() && rule_.generate > 0)
        t.ids.push_back(samplers_[text].sample(pass_.logits(static_cast<int>(count) - 1)));
    });
  }

  // The newest id of each of these texts, together.
  void decode(std::size_t first, std::size_t count) {
    std::vector<TokenInput> tokens;
    in_step_.clear();
    for (std::size_t s = 0; s < count; ++s) {
      in_step_.push_back(first + s);
      tokens.push_back({.id = out_.texts[first + s].ids.back(),
                        .sequence = static_cast<int>(s),
                        .position = pass_.arithmetic().sequence_length(static_cast<int>(s)),
                        .wants_logits = true});
    }
    pass_.step(tokens);
    advance(count);
    for (std::size_t s = 0; s < count; ++s) {
      RecordedText& text = out_.texts[first + s];
      if (text.ids.size() < text.prompt_tokens + size(rule_.generate))
        text.ids.push_back(samplers_[first + s].sample(pass_.logits(static_cast<int>(s))));
    }
  }

  void advance(std::size_t tokens) {
    out_.forwarded += static_cast<std::int64_t>(tokens);
    if (progress_ && !progress_(out_.forwarded, all_)) throw RunError("learning was interrupted");
  }

  // A step holds many tokens of one text, or one token of each of several.
  void watch(int layer, std::span<const RouteRecord> routes) {
    for (std::size_t t = 0; t < routes.size(); ++t) store(layer, routes[t], t, routes.size());
    for (int d = 1; d <= kMaxLookahead && layer + d < out_.layers; ++d) predict(layer + d, d, routes.size());
    for (int d = 1; d <= std::min(kMaxLookahead, layer); ++d) judge(layer, d, routes);
  }

  // Layers come one after the other, so a step's rows are made at the first.
  void store(int layer, const RouteRecord& route, std::size_t t, std::size_t tokens) {
    RecordedText& text = out_.texts[in_step_[in_step_.size() == 1 ? 0 : t]];
    const std::size_t k = size(out_.top_k), row = size(out_.layers) * k;
    const std::size_t of_text = in_step_.size() == 1 ? tokens : 1, number = in_step_.size() == 1 ? t : 0;
    if (layer == 0 && number == 0) {
      text.picks.resize(text.picks.size() + of_text * row);
      text.weights.resize(text.picks.size());
    }
    const std::size_t at = text.picks.size() - (of_text - number) * row + size(layer) * k;
    float sum = 0;
    for (std::size_t r = 0; r < k; ++r) sum += route.weight[r];
    for (std::size_t r = 0; r < k; ++r) {
      text.picks[at + r] = route.expert[r];
      text.weights[at + r] = sum > 0 ? route.weight[r] / sum : 1 / static_cast<float>(k);
    }
  }

  // The top-k of a coming layer's gate on this layer's input, kept until that layer is reached.
  void predict(int target, int distance, std::size_t tokens) {
    std::vector<std::uint16_t>& kept = predicted_[size(distance - 1)][size(target % (kMaxLookahead + 1))];
    const std::size_t k = size(out_.top_k);
    kept.resize(tokens * k);
    for (std::size_t t = 0; t < tokens; ++t) {
      pass_.arithmetic().lookahead_logits(target, static_cast<int>(t), logits_);
      for (std::size_t e = 0; e < order_.size(); ++e) order_[e] = static_cast<std::uint16_t>(e);
      std::partial_sort(
          order_.begin(), order_.begin() + static_cast<std::ptrdiff_t>(k), order_.end(),
          [&](std::uint16_t a, std::uint16_t b) { return logits_[a] != logits_[b] ? logits_[a] > logits_[b] : a < b; });
      std::copy_n(order_.begin(), k, kept.begin() + static_cast<std::ptrdiff_t>(t * k));
    }
  }

  void judge(int layer, int distance, std::span<const RouteRecord> routes) {
    const auto& kept = predicted_[size(distance - 1)][size(layer % (kMaxLookahead + 1))];
    const std::size_t k = size(out_.top_k);
    for (std::size_t t = 0; t < routes.size(); ++t) {
      const auto begin = kept.begin() + static_cast<std::ptrdiff_t>(t * k),
                 end = begin + static_cast<std::ptrdiff_t>(k);
      for (std::size_t r = 0; r < k; ++r)
        out_.lookahead_found[size(distance - 1)][size(layer)] += std::find(begin, end, routes[t].expert[r]) != end;
    }
  }

  const Model& model_;
  const RecordingRule& rule_;
  const LearnProgress& progress_;
  ForwardPass pass_;
  RecordedTexts out_;
  std::vector<Sampler> samplers_;  // by text
  std::vector<std::size_t> in_step_;
  std::int64_t all_ = 0;
  std::vector<float> logits_;
  std::vector<std::uint16_t> order_;
  // [d - 1][layer mod 4]: [token][rank]
  std::array<std::array<std::vector<std::uint16_t>, kMaxLookahead + 1>, kMaxLookahead> predicted_;
};

}  // namespace

RecordedTexts record_texts(const Model& model, ThreadPool& pool, std::span<const std::vector<std::int32_t>> prompts,
                           const RecordingRule& rule, const LearnProgress& progress) {
  return Recording(model, pool, prompts, rule, progress).run();
}

}  // namespace expertscope
