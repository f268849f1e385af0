#include "engine/synth/synth_plan.h"

#include <algorithm>
#include <cmath>
#include <string>

#include <fmt/format.h>
#include <immintrin.h>

#include "engine/assert.h"
#include "engine/error.h"
#include "engine/model/tensor_names.h"
#include "engine/synth/random_blocks.h"

namespace expertscope {
namespace {

// Random streams of tensors; routing uses lower ones.
constexpr std::uint64_t kWeights = 100;
constexpr double kWeightDeviation = 0.025;

struct TypeName {
  std::string_view name;
  TensorType type;
  std::uint32_t file_type;  // general.file_type: what most of the tensors are
};
constexpr TypeName kTypes[] = {{"q8_0", TensorType::q8_0, 7},  {"q4_0", TensorType::q4_0, 2},
                               {"q4_k", TensorType::q4_k, 14}, {"q5_k", TensorType::q5_k, 16},
                               {"q6_k", TensorType::q6_k, 18}, {"f16", TensorType::f16, 1},
                               {"bf16", TensorType::bf16, 32}};

const TypeName& entry_of(TensorType type) {
  const auto* entry = std::ranges::find(kTypes, type, &TypeName::type);
  ES_ASSERT(entry != std::end(kTypes), "a model of such a type is not written");
  return *entry;
}

void add_vocabulary(GgufLayout& out, const SynthShape& shape) {
  enum TokenType : std::int32_t { kNormal = 1, kUnknown = 2, kControl = 3, kByte = 6 };
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
  std::vector<std::int32_t> types = {kUnknown, kControl, kControl};
  for (int byte = 0; byte < 256; ++byte) {
    tokens.push_back(fmt::format("<0x{:02X}>", byte));
    types.push_back(kByte);
  }
  for (int id = kSynthOrdinary; id < shape.vocab; ++id) {
    tokens.push_back(fmt::format("\u2581t{}", id));  // a word: a space, then its name
    types.push_back(kNormal);
  }
  std::vector<float> scores(tokens.size(), 0);
  for (std::size_t i = kSynthOrdinary; i < scores.size(); ++i) scores[i] = -static_cast<float>(i);
  out.add_string("tokenizer.ggml.model", "llama");
  out.add_strings("tokenizer.ggml.tokens", tokens);
  out.add_floats("tokenizer.ggml.scores", scores);
  out.add_ints("tokenizer.ggml.token_type", types);
  out.add_u32("tokenizer.ggml.bos_token_id", 1);
  out.add_u32("tokenizer.ggml.eos_token_id", 2);
  out.add_u32("tokenizer.ggml.unknown_token_id", 0);
}

std::span<float> floats(std::span<std::byte> bytes) {
  return {reinterpret_cast<float*>(bytes.data()), bytes.size() / sizeof(float)};
}

}  // namespace

TensorType find_synth_type(std::string_view wanted) {
  std::string known;
  for (const TypeName& t : kTypes) {
    if (t.name == wanted) return t.type;
    known += (known.empty() ? "" : ", ") + std::string(t.name);
  }
  throw InputError("--type: '" + std::string(wanted) + "' is not known: choose one of " + known);
}

SynthPlan::SynthPlan(const SynthRequest& request, const PlantedRouting& planted)
    : request_(request), planted_(planted) {
  ES_ASSERT(request.stream_tokens >= SynthRequest::kMinStreamTokens, "a planted text is too short");
  add_metadata();
  add_tensors();
}

void SynthPlan::add_metadata() {
  const SynthShape& s = request_.shape;
  GgufLayout& out = layout_;
  const TypeName& type = entry_of(request_.type);
  out.add_string("general.architecture", s.architecture);
  out.add_string("general.name", fmt::format("synthetic {} {} {}", s.name, type.name, name(request_.routing)));
  out.add_string("general.description", "Random weights with planted routing, written by expertscope synth");
  out.add_u32("general.file_type", type.file_type);
  out.add_u32("general.quantization_version", 2);
  out.add_u32("general.alignment", GgufLayout::kAlignment);
  out.add_u32(kSynthVersionKey, kSynthVersion);
  out.add_string("general.synth.shape", s.name);
  out.add_string("general.synth.type", type.name);
  out.add_string("general.synth.routing", name(request_.routing));
  out.add_u64("general.synth.seed", request_.seed);

  const auto key = [&](const char* name) { return std::string(s.architecture) + "." + name; };
  const auto add = [&](const char* name, int value) { out.add_u32(key(name), static_cast<std::uint32_t>(value)); };
  add("vocab_size", s.vocab);
  add("context_length", s.context);
  add("embedding_length", s.width);
  add("block_count", s.layers);
  add("feed_forward_length", s.dense_ff);
  // Qwen files without it mean something else by the former.
  if (s.dense_ff != s.expert_ff || s.architecture == "qwen3moe") add("expert_feed_forward_length", s.expert_ff);
  add("expert_count", s.experts);
  add("expert_used_count", s.top_k);
  add("attention.head_count", s.heads);
  add("attention.head_count_kv", s.kv_heads);
  add("attention.key_length", s.head_dim);
  add("attention.value_length", s.head_dim);
  out.add_f32(key("attention.layer_norm_rms_epsilon"), static_cast<float>(s.norm_eps));
  add("rope.dimension_count", s.head_dim);
  out.add_f32(key("rope.freq_base"), static_cast<float>(s.rope_base));
  add_vocabulary(out, s);
}

void SynthPlan::add_tensor(std::string name, std::vector<std::int64_t> shape, TensorType type, Content content) {
  layout_.add_tensor(std::move(name), std::move(shape), type);
  contents_.push_back(content);
}

void SynthPlan::add_tensors() {
  const SynthShape& s = request_.shape;
  add_tensor("token_embd.weight", {s.width, s.vocab}, TensorType::f16, {.kind = Kind::embedding});
  for (int l = 0; l < s.layers; ++l) add_layer(l);
  add_tensor("output_norm.weight", {s.width}, TensorType::f32, {.kind = Kind::ones});
  add_tensor("output.weight", {s.width, s.vocab}, request_.type, {.kind = Kind::random, .deviation = kWeightDeviation});
}

void SynthPlan::add_layer(int layer) {
  const SynthShape& s = request_.shape;
  const auto norm = [&](const char* part, std::int64_t n) {
    add_tensor(layer_tensor_name(layer, part), {n}, TensorType::f32, {.kind = Kind::ones});
  };
  const auto matrix = [&](const std::string& name, std::vector<std::int64_t> shape, double deviation) {
    add_tensor(name, std::move(shape), request_.type, {.kind = Kind::random, .layer = layer, .deviation = deviation});
  };
  // What comes back into the residual stream is small, so that a token's route stays its own.
  const double into_stream = kWeightDeviation / std::sqrt(2.0 * s.layers);
  norm("attn_norm", s.width);
  matrix(layer_tensor_name(layer, "attn_q"), {s.width, s.q_width()}, kWeightDeviation);
  matrix(layer_tensor_name(layer, "attn_k"), {s.width, s.kv_width()}, kWeightDeviation);
  matrix(layer_tensor_name(layer, "attn_v"), {s.width, s.kv_width()}, kWeightDeviation);
  matrix(layer_tensor_name(layer, "attn_output"), {s.q_width(), s.width}, into_stream);
  if (s.qk_norm != QkNorm::none) {
    const bool per_head = s.qk_norm == QkNorm::per_head;
    norm("attn_q_norm", per_head ? s.head_dim : s.q_width());
    norm("attn_k_norm", per_head ? s.head_dim : s.kv_width());
  }
  norm("ffn_norm", s.width);
  add_tensor(layer_tensor_name(layer, "ffn_gate_inp"), {s.width, s.experts}, TensorType::f32,
             {.kind = Kind::router, .layer = layer});
  matrix(merged_experts_name(layer, "gate"), {s.width, s.expert_ff, s.experts}, kWeightDeviation);
  matrix(merged_experts_name(layer, "up"), {s.width, s.expert_ff, s.experts}, kWeightDeviation);
  matrix(merged_experts_name(layer, "down"), {s.expert_ff, s.width, s.experts}, into_stream);
}

std::int64_t SynthPlan::part_values(std::size_t tensor) const {
  const GgufLayout::Tensor& t = layout_.tensors()[tensor];
  switch (contents_[tensor].kind) {
    case Kind::embedding:
      return t.shape[0] * 256;
    case Kind::random:
      return std::int64_t{1} << 22;
    default:
      return t.values;
  }
}

void SynthPlan::fill(std::size_t tensor, std::int64_t first, std::span<std::byte> out) const {
  const GgufLayout::Tensor& t = layout_.tensors()[tensor];
  const Content& content = contents_[tensor];
  switch (content.kind) {
    case Kind::ones:
      std::ranges::fill(floats(out), 1.0F);
      return;
    case Kind::router:
      return planted_.router(content.layer, floats(out));
    case Kind::embedding:
      return fill_embedding(first, out);
    case Kind::random:
      RandomBlocks(t.type, content.deviation, CounterRandom(request_.seed, kWeights, tensor)).fill(first, out);
  }
}

void SynthPlan::fill_embedding(std::int64_t first, std::span<std::byte> out) const {
  const auto width = static_cast<std::size_t>(request_.shape.width);
  std::vector<float> row(width);
  for (std::size_t begin = 0; begin < out.size(); begin += 2 * width) {
    planted_.embedding(static_cast<std::int32_t>((static_cast<std::size_t>(first) + begin / 2) / width), row);
    for (std::size_t i = 0; i < width; i += 8) {
      const __m128i halves = _mm256_cvtps_ph(_mm256_loadu_ps(&row[i]), _MM_FROUND_TO_NEAREST_INT);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(&out[begin + 2 * i]), halves);
    }
  }
}

}  // namespace expertscope
