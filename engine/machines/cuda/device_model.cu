#include <algorithm>
#include <cstring>

#include "engine/assert.h"
#include "engine/machines/cuda/device_model.h"
#include "engine/model/kernels.h"

namespace expertscope::cuda {
namespace {

constexpr std::int64_t kAlignment = 256;
constexpr int kFirstPositions = 2048;  // of a KV cache

std::int64_t aligned(std::int64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

std::int64_t bytes_of(const WeightView& w) {
  const std::int64_t values = std::int64_t{w.rows} * w.cols;
  return aligned(quants_bytes(w.type, values)) + aligned(scales_bytes(w.type, values));
}
std::int64_t bytes_of(const std::vector<float>& v) {
  return aligned(static_cast<std::int64_t>(v.size() * sizeof(float)));
}

std::int64_t dense_bytes(const Model& model) {
  std::int64_t bytes = bytes_of(model.embedding().view()) + bytes_of(model.output_norm()) +
                       aligned(model.description().rope.dims / 2 * static_cast<std::int64_t>(sizeof(double)));
  if (!model.description().tied_output) bytes += bytes_of(model.head().view());
  for (int l = 0; l < model.description().layers; ++l) {
    const LayerWeights& w = model.layer(l);
    for (const WeightMatrix* m : {&w.q, &w.k, &w.v, &w.output, &w.router}) bytes += bytes_of(m->view());
    for (const std::vector<float>* v : {&w.attention_norm, &w.expert_norm, &w.q_norm, &w.k_norm}) bytes += bytes_of(*v);
  }
  return bytes;
}

void upload_bytes(void* to, const void* from, std::size_t bytes) {
  check(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice), "copying dense weights to the device");
}

AttentionShape attention_shape(const ModelDescription& d) {
  return {.heads = d.heads,
          .kv_heads = d.kv_heads,
          .head_dim = d.head_dim,
          .style = d.rope.style,
          .rope_dims = d.rope.dims,
          .qk_norm = d.qk_norm,
          .eps = d.norm_eps};
}

}  // namespace

DeviceModel::DeviceModel(const Model& model, int max_step_tokens, cudaStream_t stream)
    : model_(model),
      description_(model.description()),
      max_tokens_(max_step_tokens),
      stream_(stream),
      shape_(attention_shape(description_)),
      tokens_in_(max_step_tokens),
      step_tokens_(max_step_tokens),
      wanted_(max_step_tokens),
      prompt_attention_(shape_) {
  const ModelDescription& d = description_;
  upload();
  const std::int64_t t = max_tokens_, small = std::min(max_tokens_, kLargeStep), picks = t * d.router.top_k;
  x_ = DeviceArray<float>(t * d.width);
  q_ = DeviceArray<float>(t * d.q_width());
  k_ = DeviceArray<float>(t * d.kv_width());
  v_ = DeviceArray<float>(t * d.kv_width());
  attended_ = DeviceArray<float>(t * d.q_width());
  expert_input_ = DeviceArray<float>(t * d.width);
  router_logits_ = DeviceArray<float>(t * d.router.experts * 4);
  weights_ = DeviceArray<float>(picks + 3);
  hidden_ = DeviceArray<float>(small * d.router.top_k * d.expert_ff);
  output_ = DeviceArray<float>(picks * d.width);
  turn_values_ = DeviceArray<Turn>(t * turns_.pairs);
  turns_.of_tokens = turn_values_.data();
  parts_ = DeviceArray<float>(std::int64_t{kMostSplits} * d.heads * (d.head_dim + 2));
  part_counters_ = DeviceArray<std::uint32_t>(d.heads);
  check(cudaMemset(part_counters_.data(), 0, part_counters_.bytes()), "clearing device memory");
  if (max_tokens_ >= kLargeStep) {
    normed_half_ = DeviceArray<__half>(t * d.width);
    attended_half_ = DeviceArray<__half>(t * d.q_width());
    expert_input_half_ = DeviceArray<__half>(t * d.width);
    hidden_half_ = DeviceArray<__half>(picks * d.expert_ff);
  }
  hold_sequences(1);
}

void DeviceModel::upload() {
  const ModelDescription& d = description_;
  dense_ = DeviceArray<std::uint8_t>(cuda::dense_bytes(model_));
  std::int64_t at = 0;
  embedding_ = put(model_.embedding().view(), at);
  head_ = d.tied_output ? embedding_ : put(model_.head().view(), at);
  output_norm_ = put(model_.output_norm(), at);
  const std::vector<double> frequencies = rope_frequencies(d.rope);
  upload_bytes(dense_.data() + at, frequencies.data(), frequencies.size() * sizeof(double));
  turns_.frequencies = reinterpret_cast<const double*>(dense_.data() + at);
  turns_.pairs = static_cast<int>(frequencies.size());
  at += aligned(static_cast<std::int64_t>(frequencies.size() * sizeof(double)));
  for (int l = 0; l < d.layers; ++l) {
    const LayerWeights& w = model_.layer(l);
    Layer layer{.q = put(w.q.view(), at),
                .k = put(w.k.view(), at),
                .v = put(w.v.view(), at),
                .output = put(w.output.view(), at),
                .router = put(w.router.view(), at)};
    layer.attention_norm = put(w.attention_norm, at);
    layer.expert_norm = put(w.expert_norm, at);
    layer.q_norm = put(w.q_norm, at);
    layer.k_norm = put(w.k_norm, at);
    layers_.push_back(layer);
  }
  ES_ASSERT(at <= dense_.size(), "the dense weights fit into what was counted");
}

DeviceMatrix DeviceModel::put(const WeightView& w, std::int64_t& at) {
  const std::int64_t values = std::int64_t{w.rows} * w.cols;
  DeviceMatrix m{.quants = dense_.data() + at, .rows = w.rows, .cols = w.cols, .type = w.type};
  upload_bytes(dense_.data() + at, w.quants, static_cast<std::size_t>(quants_bytes(w.type, values)));
  at += aligned(quants_bytes(w.type, values));
  if (has_scales_plane(w.type)) {
    m.scales = dense_.data() + at;
    upload_bytes(dense_.data() + at, w.scales, static_cast<std::size_t>(scales_bytes(w.type, values)));
    at += aligned(scales_bytes(w.type, values));
  }
  return m;
}

const float* DeviceModel::put(const std::vector<float>& v, std::int64_t& at) {
  if (v.empty()) return nullptr;
  upload_bytes(dense_.data() + at, v.data(), v.size() * sizeof(float));
  const float* p = reinterpret_cast<const float*>(dense_.data() + at);
  at += bytes_of(v);
  return p;
}

// --- KV caches

int DeviceModel::first_positions() const {
  return std::min(kFirstPositions, description_.context);
}

std::int64_t DeviceModel::first_kv_bytes() const {
  return std::int64_t{2} * description_.layers * first_positions() * description_.kv_width() *
         static_cast<std::int64_t>(sizeof(float));
}

std::int64_t DeviceModel::kv_bytes() const {
  std::int64_t bytes = 0;
  for (const Cache& cache : caches_) bytes += static_cast<std::int64_t>(cache.keys.bytes() + cache.values.bytes());
  return bytes;
}

void DeviceModel::hold_sequences(int count) {
  caches_.resize(static_cast<std::size_t>(count));
  for (Cache& cache : caches_) grow(cache, first_positions());
}

// Makes room for so many positions, at least doubling, up to the whole context. What is there is kept.
void DeviceModel::grow(Cache& cache, int positions) {
  if (positions <= cache.capacity) return;
  const int capacity = std::min(description_.context, std::max(positions, 2 * cache.capacity));
  const std::int64_t width = description_.kv_width();
  for (DeviceArray<float>* array : {&cache.keys, &cache.values}) {
    DeviceArray<float> larger(description_.layers * capacity * width);
    const std::size_t row = static_cast<std::size_t>(width) * sizeof(float);
    if (cache.capacity > 0) {
      check(cudaMemcpy2DAsync(larger.data(), static_cast<std::size_t>(capacity) * row, array->data(),
                              static_cast<std::size_t>(cache.capacity) * row,
                              static_cast<std::size_t>(cache.capacity) * row,
                              static_cast<std::size_t>(description_.layers), cudaMemcpyDeviceToDevice, stream_),
            "growing the KV cache");
      check(cudaStreamSynchronize(stream_), "growing the KV cache");
    }
    *array = std::move(larger);
  }
  cache.capacity = capacity;
}

KeyValues DeviceModel::key_values(int layer, int sequence) const {
  const Cache& cache = caches_[static_cast<std::size_t>(sequence)];
  const std::int64_t at = std::int64_t{layer} * cache.capacity * description_.kv_width();
  return {cache.keys.data() + at, cache.values.data() + at};
}

// --- a step

void DeviceModel::begin_step(std::span<const TokenInput> tokens, Stamp stamp) {
  ES_ASSERT(!tokens.empty() && tokens.size() <= static_cast<std::size_t>(max_tokens_),
            "a step has 1 to max_step_tokens");
  tokens_ = static_cast<int>(tokens.size());
  runs_.clear();
  logit_rows_.assign(tokens.size(), -1);
  wanted_count_ = 0;
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    if (runs_.empty() || runs_.back().sequence != tokens[t].sequence)
      runs_.push_back({tokens[t].sequence, static_cast<int>(t), 0, tokens[t].position});
    Run& run = runs_.back();
    ES_ASSERT(tokens[t].position == run.position + run.count, "positions of a sequence follow each other");
    ++run.count;
    tokens_in_[t] = {tokens[t].id, tokens[t].position};
    if (!tokens[t].wants_logits) continue;
    wanted_[static_cast<std::size_t>(wanted_count_)] = static_cast<std::int32_t>(t);
    logit_rows_[t] = wanted_count_++;
  }
  for (const Run& run : runs_) {
    ES_ASSERT(run.sequence >= 0 && run.sequence < sequences(), "a sequence that is held");
    grow(caches_[static_cast<std::size_t>(run.sequence)], run.position + run.count);
  }
  const std::int64_t values = std::int64_t{wanted_count_} * description_.vocab;
  if (values + 3 > logits_.size()) {
    logits_ = DeviceArray<float>(values + 3);  // moved in words of 16 bytes
    host_logits_ = MappedArray<float>(values + 3);
  }
  embed(embedding_, tokens_in_.data(), step_tokens_.data(), x_.data(), turns_, tokens_, stamp, stream_);
}

void DeviceModel::attention(int layer, Stamp stamp) {
  const ModelDescription& d = description_;
  const Layer& w = layers_[static_cast<std::size_t>(layer)];
  const Stamp first{stamp.start, nullptr, stamp.counter}, last{nullptr, stamp.end, stamp.counter};
  if (large()) {
    norm_to_half(x_.data(), w.attention_norm, d.norm_eps, d.width, tokens_, normed_half_.data(), first, stream_);
    multiply_large({.w = w.q, .x = normed_half_.data(), .y = q_.data()}, tokens_, {}, stream_);
    multiply_large({.w = w.k, .x = normed_half_.data(), .y = k_.data()}, tokens_, {}, stream_);
    multiply_large({.w = w.v, .x = normed_half_.data(), .y = v_.data()}, tokens_, {}, stream_);
  } else {
    multiply({.w = {w.q, w.k, w.v},
              .y = {q_.data(), k_.data(), v_.data()},
              .count = 3,
              .x = x_.data(),
              .norm = w.attention_norm,
              .eps = d.norm_eps},
             tokens_, first, stream_);
  }
  for (const Run& run : runs_) attend_run(w, key_values(layer, run.sequence), run);
  if (large()) {
    multiply_large({.w = w.output, .x = attended_half_.data(), .y = x_.data(), .add = true}, tokens_, last, stream_);
  } else {
    multiply({.w = {w.output}, .y = {x_.data()}, .count = 1, .x = attended_.data(), .add = true}, tokens_, last,
             stream_);
  }
}

// Leaves what the run's tokens attended to, in float16 for a large step. Keys and values go into the cache.
void DeviceModel::attend_run(const Layer& w, KeyValues cache, const Run& run) {
  const std::int64_t q_at = std::int64_t{run.first} * description_.q_width();
  const std::int64_t kv_at = std::int64_t{run.first} * description_.kv_width();
  const Turn* turns = turns_.of_tokens + std::int64_t{run.first} * turns_.pairs;
  const StepToken* tokens = step_tokens_.data() + run.first;
  float *q = q_.data() + q_at, *out = attended_.data() + q_at;
  const float *k = k_.data() + kv_at, *v = v_.data() + kv_at;
  const AttentionScratch scratch{parts_.data(), part_counters_.data()};
  const bool attended = run.count == 1 && rotate_and_attend(shape_, turns, w.q_norm, w.k_norm, q, k, v, cache, out,
                                                            run.position, scratch, stream_);
  if (!attended) {
    rotate_and_store(shape_, turns, w.q_norm, w.k_norm, tokens, q, k, v, cache, run.count, stream_);
    if (large() && run.count > 1 && prompt_attention_.unavailable().empty())
      return prompt_attention_.run(q, cache, run.position, run.count, attended_half_.data() + q_at, stream_);
    attend(shape_, tokens, q, cache, out, run.count, run.position + run.count - 1, scratch, stream_);
  }
  if (large()) to_half(out, attended_half_.data() + q_at, std::int64_t{run.count} * description_.q_width(), stream_);
}

RouterGates DeviceModel::gates(int layer, int ahead) const {
  RouterGates g;
  g.count = 1 + ahead;
  g.x = x_.data();
  g.norm = layers_[static_cast<std::size_t>(layer)].expert_norm;
  g.eps = description_.norm_eps;
  g.rule = description_.router;
  for (int i = 0; i <= ahead; ++i) g.w[i] = layers_[static_cast<std::size_t>(layer + i)].router;
  return g;
}

RouterOutputs DeviceModel::router_outputs() const {
  return {.logits = router_logits_.data(),
          .input = expert_input_.data(),
          .input_half = large() ? expert_input_half_.data() : nullptr,
          .weights = weights_.data()};
}

Choice DeviceModel::choice(const std::uint64_t* table) const {
  return {.rule = description_.router, .logits = router_logits_.data(), .table = table, .weights = weights_.data()};
}

ExpertRun DeviceModel::expert_run(int layer) const {
  const ExpertBlobLayout& blob = model_.blob_layout(layer);
  ExpertRun run;
  run.layout = {blob.gate, blob.up, blob.down};
  run.input = expert_input_.data();
  run.input_half = expert_input_half_.data();
  run.hidden = hidden_.data();
  run.hidden_half = hidden_half_.data();
  run.output = output_.data();
  return run;
}

void DeviceModel::head(Stamp stamp) {
  // A single row is found here: thousands of blocks would ask the host's memory for its index.
  const bool one = wanted_count_ == 1;
  multiply({.w = {head_},
            .y = {logits_.data()},
            .count = 1,
            .x = x_.data() + (one ? std::int64_t{wanted_[0]} * description_.width : 0),
            .norm = output_norm_,
            .eps = description_.norm_eps,
            .only = one ? nullptr : wanted_.data()},
           wanted_count_, stamp, stream_);
}

void DeviceModel::fetch_logits() {
  move(logits_.data(), host_logits_.data(),
       std::int64_t{wanted_count_} * description_.vocab * static_cast<std::int64_t>(sizeof(float)), stream_);
}

std::span<const float> DeviceModel::logits(int token) const {
  const int row = logit_rows_[static_cast<std::size_t>(token)];
  ES_ASSERT(row >= 0, "a token that wanted logits");
  const auto vocab = static_cast<std::size_t>(description_.vocab);
  return {host_logits_.data() + static_cast<std::size_t>(row) * vocab, vocab};
}

std::int64_t DeviceModel::work_bytes() const {
  std::int64_t bytes = prompt_attention_.bytes() + static_cast<std::int64_t>(turn_values_.bytes());
  for (const DeviceArray<float>* a : {&x_, &q_, &k_, &v_, &attended_, &expert_input_, &router_logits_, &weights_,
                                      &hidden_, &output_, &parts_, &logits_}) {
    bytes += static_cast<std::int64_t>(a->bytes());
  }
  for (const DeviceArray<__half>* a : {&normed_half_, &attended_half_, &expert_input_half_, &hidden_half_}) {
    bytes += static_cast<std::int64_t>(a->bytes());
  }
  return bytes;
}

}  // namespace expertscope::cuda
