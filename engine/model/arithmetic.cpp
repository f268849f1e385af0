#include "engine/model/arithmetic.h"

#include <algorithm>
#include <array>

#include "engine/assert.h"

namespace expertscope {

namespace {

std::size_t size(std::int64_t n) {
  return static_cast<std::size_t>(n);
}

// Pointers to the rows of a [tokens][width] buffer.
template <typename T>
std::vector<T*> row_pointers(T* buffer, int tokens, int width) {
  std::vector<T*> rows(size(tokens));
  for (std::size_t t = 0; t < rows.size(); ++t) rows[t] = buffer + t * size(width);
  return rows;
}

// Tokens that one item of a loop over tokens takes: short loops are not worth handing out.
constexpr int kTokensPerItem = 8;

}  // namespace

Arithmetic::Arithmetic(const Model& model, ThreadPool& pool, int max_step_tokens, int max_sequences)
    : model_(model),
      description_(model.description()),
      pool_(pool),
      kernels_(pool),
      max_tokens_(max_step_tokens),
      rope_frequencies_(rope_frequencies(description_.rope)),
      attention_scores_(size(pool.threads())) {
  ES_ASSERT(max_step_tokens >= 1 && max_sequences >= 1, "room for one token of one sequence");
  const ModelDescription& d = description_;
  const auto per_token = [&](std::int64_t width) { return std::vector<float>(size(max_tokens_ * width)); };
  x_ = per_token(d.width);
  normed_ = per_token(d.width);
  expert_input_ = per_token(d.width);
  delta_ = per_token(d.width);
  q_ = per_token(d.q_width());
  k_ = per_token(d.kv_width());
  v_ = per_token(d.kv_width());
  attended_ = per_token(d.q_width());
  router_logits_ = per_token(d.router.experts);
  hidden_ = per_token(d.expert_ff);
  expert_output_ = per_token(std::int64_t{d.router.top_k} * d.width);
  rope_cos_ = per_token(d.rope.dims / 2);
  rope_sin_ = per_token(d.rope.dims / 2);
  sequences_.resize(size(max_sequences));
  for (Sequence& sequence : sequences_) {
    sequence.keys.resize(size(d.layers) * size(d.kv_heads));
    sequence.values.resize(sequence.keys.size());
  }
}

void Arithmetic::begin_step(std::span<const TokenInput> tokens) {
  ES_ASSERT(!tokens.empty() && tokens.size() <= size(max_tokens_), "a step has 1 to max_step_tokens tokens");
  tokens_.assign(tokens.begin(), tokens.end());
  current_layer_ = -1;
  ahead_rows_.clear();
  logit_rows_.assign(tokens.size(), -1);
  int logit_rows = 0;
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    const TokenInput& token = tokens[t];
    ES_ASSERT(token.id >= 0 && token.id < description_.vocab, "token id within the vocabulary");
    ES_ASSERT(token.sequence >= 0 && size(token.sequence) < sequences_.size(), "a known sequence");
    Sequence& sequence = sequences_[size(token.sequence)];
    ES_ASSERT(token.position == sequence.length, "positions of a sequence follow each other");
    ES_ASSERT(token.position < description_.context, "position within the context");
    ++sequence.length;
    if (token.wants_logits) logit_rows_[t] = logit_rows++;
    dequantise_row(model_.embedding().view(), token.id, row(x_, static_cast<int>(t), description_.width));
    const int half = description_.rope.dims / 2;
    rope_angles(rope_frequencies_, token.position, row(rope_cos_, static_cast<int>(t), half),
                row(rope_sin_, static_cast<int>(t), half));
  }
  for (Sequence& sequence : sequences_) grow(sequence);
  logits_.resize(std::max(logits_.size(), size(logit_rows) * size(description_.vocab)));
}

// Makes room for the sequence's positions, at least doubling, up to the whole context.
void Arithmetic::grow(Sequence& sequence) {
  if (sequence.length <= sequence.capacity) return;
  constexpr int kLeastPositions = 256;
  sequence.capacity =
      std::min(description_.context, std::max({sequence.length, 2 * sequence.capacity, kLeastPositions}));
  for (auto* cache : {&sequence.keys, &sequence.values}) {
    for (std::vector<float>& rows : *cache) {
      rows.resize(size(sequence.capacity) * size(description_.head_dim));
    }
  }
}

void Arithmetic::for_tokens(const std::function<void(int)>& body) {
  const int tokens = step_tokens();
  pool_.parallel_for((tokens + kTokensPerItem - 1) / kTokensPerItem, [&](int item, int) {
    const int end = std::min(tokens, (item + 1) * kTokensPerItem);
    for (int t = item * kTokensPerItem; t < end; ++t) body(t);
  });
}

void Arithmetic::attention(int layer) {
  ES_ASSERT(layer == current_layer_ + 1 && layer < description_.layers, "layers in order");
  current_layer_ = layer;
  const LayerWeights& weights = model_.layer(layer);
  const int width = description_.width;
  for_tokens([&](int t) {
    rms_norm(row(x_, t, width), weights.attention_norm.data(), description_.norm_eps, width, row(normed_, t, width));
  });
  const auto normed = row_pointers<const float>(normed_.data(), step_tokens(), width);
  const auto q = row_pointers(q_.data(), step_tokens(), description_.q_width());
  const auto k = row_pointers(k_.data(), step_tokens(), description_.kv_width());
  const auto v = row_pointers(v_.data(), step_tokens(), description_.kv_width());
  kernels_.multiply(std::array<Kernels::Product, 3>{
      {{weights.q.view(), normed, q}, {weights.k.view(), normed, k}, {weights.v.view(), normed, v}}});
  for_tokens([&](int t) {
    normalise_heads(layer, t);
    rotate_and_store(layer, t);
  });
  attend_all(layer);
  kernels_.multiply(weights.output.view(),
                    row_pointers<const float>(attended_.data(), step_tokens(), description_.q_width()),
                    row_pointers(delta_.data(), step_tokens(), width));
  for_tokens([&](int t) { add(row(delta_, t, width), width, row(x_, t, width)); });
}

// Norms of the token's queries and keys, where the model has them.
void Arithmetic::normalise_heads(int layer, int t) {
  const ModelDescription& d = description_;
  if (d.qk_norm == QkNorm::none) return;
  const LayerWeights& weights = model_.layer(layer);
  const auto normalise = [&](float* values, int width, const std::vector<float>& weight) {
    const int stretch = d.qk_norm == QkNorm::per_head ? d.head_dim : width;
    for (int i = 0; i < width; i += stretch) rms_norm(values + i, weight.data(), d.norm_eps, stretch, values + i);
  };
  normalise(row(q_, t, d.q_width()), d.q_width(), weights.q_norm);
  normalise(row(k_, t, d.kv_width()), d.kv_width(), weights.k_norm);
}

// Rotates the token's queries and keys and appends its keys and values to the cache.
void Arithmetic::rotate_and_store(int layer, int t) {
  const ModelDescription& d = description_;
  const int half = d.rope.dims / 2;
  const float* cosine = row(rope_cos_, t, half);
  const float* sine = row(rope_sin_, t, half);
  const TokenInput& token = tokens_[size(t)];
  Sequence& sequence = sequences_[size(token.sequence)];
  for (int head = 0; head < d.heads; ++head) {
    rope_rotate(d.rope.style, d.rope.dims, cosine, sine, row(q_, t, d.q_width()) + head * d.head_dim);
  }
  for (int head = 0; head < d.kv_heads; ++head) {
    float* key = row(k_, t, d.kv_width()) + head * d.head_dim;
    const float* value = row(v_, t, d.kv_width()) + head * d.head_dim;
    rope_rotate(d.rope.style, d.rope.dims, cosine, sine, key);
    const std::size_t cache = size(layer) * size(d.kv_heads) + size(head);
    const std::ptrdiff_t at = std::ptrdiff_t{token.position} * d.head_dim;
    std::copy(key, key + d.head_dim, sequence.keys[cache].begin() + at);
    std::copy(value, value + d.head_dim, sequence.values[cache].begin() + at);
  }
}

void Arithmetic::attend_all(int layer) {
  const ModelDescription& d = description_;
  // A long context makes a head worth a range of its own; at its start all heads together hardly are.
  const int items = step_tokens() * d.heads;
  const int heads_per_item = std::clamp(512 / (tokens_.back().position + 1), 1, d.heads);
  pool_.parallel_for((items + heads_per_item - 1) / heads_per_item, [&](int item, int thread) {
    std::vector<float>& scores = attention_scores_[size(thread)];
    const int end = std::min(items, (item + 1) * heads_per_item);
    for (int i = item * heads_per_item; i < end; ++i) {
      const int t = i / d.heads, head = i % d.heads;
      const TokenInput& token = tokens_[size(t)];
      const Sequence& sequence = sequences_[size(token.sequence)];
      const int length = token.position + 1;
      const std::size_t cache = size(layer) * size(d.kv_heads) + size(head / (d.heads / d.kv_heads));
      scores.resize(std::max(scores.size(), size(length + 7) / 8 * 8));
      attend(row(q_, t, d.q_width()) + head * d.head_dim, sequence.keys[cache].data(), sequence.values[cache].data(),
             length, d.head_dim, scores.data(), row(attended_, t, d.q_width()) + head * d.head_dim);
    }
  });
}

void Arithmetic::router(int layer) {
  ES_ASSERT(layer == current_layer_, "the router follows its layer's attention");
  const LayerWeights& weights = model_.layer(layer);
  const int width = description_.width;
  for_tokens([&](int t) {
    float* input = row(expert_input_, t, width);
    rms_norm(row(x_, t, width), weights.expert_norm.data(), description_.norm_eps, width, input);
    Kernels::multiply_serial(weights.router.view(), input, row(router_logits_, t, description_.router.experts));
  });
  for (const ExpertRow& r : ahead_rows_) {
    const float* output = row(ahead_output_, r.token * description_.router.top_k + r.rank, width);
    std::copy(output, output + width, output_row(r.token, r.rank));
  }
  ahead_rows_.clear();
}

std::span<const float> Arithmetic::router_logits(int token) const {
  return view(router_logits_, token, description_.router.experts);
}

void Arithmetic::lookahead_logits(int other_layer, int token, std::span<float> out) const {
  ES_ASSERT(other_layer >= 0 && other_layer < description_.layers, "a layer of the model");
  ES_ASSERT(out.size() == size(description_.router.experts), "one logit per expert");
  Kernels::multiply_serial(model_.layer(other_layer).router.view(), expert_input(token).data(), out.data());
}

void Arithmetic::expert(int layer, std::span<const std::byte> blob, std::span<const ExpertRow> rows) {
  expert(layer, model_.blob_layout(layer), blob, rows);
}

void Arithmetic::expert(int layer, const ExpertBlobLayout& layout, std::span<const std::byte> blob,
                        std::span<const ExpertRow> rows) {
  ES_ASSERT(layer == current_layer_, "experts follow their layer's router");
  run_expert(layout, blob, rows, expert_output_);
}

void Arithmetic::expert_ahead(int next_layer, std::span<const std::byte> blob, std::span<const ExpertRow> rows) {
  ES_ASSERT(next_layer == current_layer_ + 1 && next_layer < description_.layers, "one layer ahead");
  ahead_output_.resize(expert_output_.size());
  run_expert(model_.blob_layout(next_layer), blob, rows, ahead_output_);
  ahead_rows_.insert(ahead_rows_.end(), rows.begin(), rows.end());
}

void Arithmetic::run_expert(const ExpertBlobLayout& layout, std::span<const std::byte> blob,
                            std::span<const ExpertRow> rows, std::vector<float>& output) {
  ES_ASSERT(static_cast<std::int64_t>(blob.size()) >= layout.bytes, "a whole expert");
  ES_ASSERT(rows.size() <= tokens_.size(), "an expert meets a token once");
  if (rows.empty()) return;
  expert_from_.clear();
  expert_to_.clear();
  for (const ExpertRow& pick : rows) {
    ES_ASSERT(pick.token >= 0 && pick.token < step_tokens(), "a token of the step");
    ES_ASSERT(pick.rank >= 0 && pick.rank < description_.router.top_k, "a rank of the router");
    expert_from_.push_back(row(expert_input_, pick.token, description_.width));
    expert_to_.push_back(row(output, pick.token * description_.router.top_k + pick.rank, description_.width));
  }
  const auto hidden = row_pointers(hidden_.data(), static_cast<int>(rows.size()), description_.expert_ff);
  kernels_.gated_multiply(matrix_in_blob(layout.gate, blob.data()), matrix_in_blob(layout.up, blob.data()),
                          expert_from_, hidden);
  const std::vector<const float*> inner(hidden.begin(), hidden.end());
  kernels_.multiply(matrix_in_blob(layout.down, blob.data()), inner, expert_to_);
}

void Arithmetic::combine(int layer, int token, std::span<const float> weights) {
  ES_ASSERT(layer == current_layer_, "combine follows its layer's experts");
  ES_ASSERT(token >= 0 && token < step_tokens(), "a token of the step");
  ES_ASSERT(weights.size() == size(description_.router.top_k), "one weight per rank");
  const int width = description_.width;
  float* sum = row(delta_, token, width);
  bool any = false;
  for (std::size_t rank = 0; rank < weights.size(); ++rank) {
    if (weights[rank] == 0) continue;
    const float* output = output_row(token, static_cast<int>(rank));
    if (any)
      add_scaled(output, weights[rank], width, sum);
    else
      scale(output, weights[rank], width, sum);
    any = true;
  }
  if (any) add(sum, width, row(x_, token, width));
}

void Arithmetic::head() {
  ES_ASSERT(current_layer_ == description_.layers - 1, "the head follows the last layer");
  const int width = description_.width;
  std::vector<const float*> from;
  std::vector<float*> to;
  for (int t = 0; t < step_tokens(); ++t) {
    const int logit_row = logit_rows_[size(t)];
    if (logit_row < 0) continue;
    rms_norm(row(x_, t, width), model_.output_norm().data(), description_.norm_eps, width, row(normed_, t, width));
    from.push_back(row(normed_, t, width));
    to.push_back(row(logits_, logit_row, description_.vocab));
  }
  kernels_.multiply(model_.head().view(), from, to);
}

std::span<const float> Arithmetic::logits(int token) const {
  ES_ASSERT(token >= 0 && token < step_tokens() && logit_rows_[size(token)] >= 0, "a token that wanted logits");
  return {logits_.data() + size(logit_rows_[size(token)]) * size(description_.vocab), size(description_.vocab)};
}

std::span<const float> Arithmetic::expert_input(int token) const {
  return view(expert_input_, token, description_.width);
}
std::span<const float> Arithmetic::hidden(int token) const {
  return view(x_, token, description_.width);
}

std::span<const float> Arithmetic::expert_output(int token, int rank) const {
  ES_ASSERT(rank >= 0 && rank < description_.router.top_k, "a rank of the router");
  return view(expert_output_, token, description_.router.top_k * description_.width)
      .subspan(size(rank) * size(description_.width), size(description_.width));
}

void Arithmetic::reset_sequence(int sequence) {
  ES_ASSERT(sequence >= 0 && size(sequence) < sequences_.size(), "a known sequence");
  sequences_[size(sequence)].length = 0;
}

int Arithmetic::sequence_length(int sequence) const {
  ES_ASSERT(sequence >= 0 && size(sequence) < sequences_.size(), "a known sequence");
  return sequences_[size(sequence)].length;
}

std::int64_t Arithmetic::kv_bytes_per_token() const {
  return std::int64_t{2} * description_.layers * description_.kv_width() * static_cast<std::int64_t>(sizeof(float));
}

std::int64_t Arithmetic::kv_bytes() const {
  return kv_bytes_per_token() * description_.context * static_cast<std::int64_t>(sequences_.size());
}

int Arithmetic::step_tokens() const {
  return static_cast<int>(tokens_.size());
}

float* Arithmetic::row(std::vector<float>& buffer, int token, int width) {
  return buffer.data() + size(token) * size(width);
}

float* Arithmetic::output_row(int token, int rank) {
  return row(expert_output_, token * description_.router.top_k + rank, description_.width);
}

std::span<const float> Arithmetic::view(const std::vector<float>& buffer, int token, int width) const {
  ES_ASSERT(token >= 0 && token < step_tokens(), "a token of the step");
  return {buffer.data() + size(token) * size(width), size(width)};
}

}  // namespace expertscope
