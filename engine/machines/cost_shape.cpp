#include "engine/machines/cost_shape.h"

#include <algorithm>

#include <fmt/format.h>

#include "engine/error.h"
#include "engine/json_fields.h"
#include "engine/model/model.h"

namespace expertscope {
namespace {

// Sizes of published models (reference: their configurations). Bits per weight: 16 for BF16, 4.5 for Q4_0 and Q4_K.
struct PublishedShape {
  const char* name;
  double width, expert_ff, vocab, heads, kv_width;  // kv_width: values that one token's key and value take, one layer
  double head_dim, q_width;
  double shared_ff;        // shared experts, run for every token beside attention
  double extra_attention;  // parameters of low-rank attention beyond q and output; < 0: plain k and v projections
  double bits;
};

constexpr PublishedShape kPublished[] = {
    {"mixtral-8x7b-bf16", 4096, 14336, 32000, 32, 2 * 1024, 128, 4096, 0, -1, 16},
    {"mixtral-8x7b-q4", 4096, 14336, 32000, 32, 2 * 1024, 128, 4096, 0, -1, 4.5},
    {"phi-3.5-moe-bf16", 4096, 6400, 32064, 32, 2 * 1024, 128, 4096, 0, -1, 16},
    {"qwen3-30b-a3b-q4", 2048, 768, 151936, 32, 2 * 512, 128, 4096, 0, -1, 4.5},
    // Multi-head latent attention, keys (192) and values (128) of 16 heads cached; kv_a 2048x576, kv_b 512x4096; the
    // output projection takes 16 x 128 values.
    {"deepseek-v2-lite-bf16", 2048, 1408, 102400, 16, 16 * (192 + 128), 160, 3072, 2816,
     2048 * 576 + 512 * 4096 + 2048 * 2048 - 3072 * 2048, 16},
};

CostShape from(const PublishedShape& m) {
  const double bytes = m.bits / 8;
  CostShape s;
  s.name = m.name;
  s.width = m.width;
  s.expert_parameters = 3 * m.width * m.expert_ff;
  s.expert_bytes = static_cast<std::int64_t>(s.expert_parameters * bytes);
  const double kv_projections = m.extra_attention < 0 ? m.width * m.kv_width : m.extra_attention;
  s.attention_parameters = 2 * m.width * m.q_width + kv_projections + 3 * m.width * m.shared_ff;
  s.attention_bytes = static_cast<std::int64_t>(s.attention_parameters * bytes);
  s.kv_bytes_per_token = static_cast<std::int64_t>(m.kv_width * 2);  // 16-bit
  s.attention_flops_per_position = 4 * m.heads * m.head_dim;
  s.head_parameters = m.width * m.vocab;
  s.head_bytes = static_cast<std::int64_t>(s.head_parameters * bytes);
  s.embedding_bytes = s.head_bytes;
  return s;
}

}  // namespace

CostShape own_shape(const Model& model) {
  const ModelDescription& d = model.description();
  CostShape s;
  s.name = "own";
  s.width = d.width;
  s.expert_parameters = 3.0 * d.width * d.expert_ff;
  for (const ExpertBlobLayout& blob : d.expert_blob) s.expert_bytes = std::max(s.expert_bytes, blob.bytes);
  s.attention_parameters = static_cast<double>(d.width) * (2 * d.q_width() + 2 * d.kv_width());
  const LayerWeights& w = model.layer(0);
  s.attention_bytes = w.q.bytes() + w.k.bytes() + w.v.bytes() + w.output.bytes();
  s.kv_bytes_per_token = std::int64_t{2} * d.kv_width() * 2;  // 16-bit, as on a GPU
  s.attention_flops_per_position = 4.0 * d.heads * d.head_dim;
  s.head_parameters = static_cast<double>(d.width) * d.vocab;
  s.head_bytes = model.head().bytes();
  s.embedding_bytes = d.tied_output ? 0 : model.embedding().bytes();
  return s;
}

std::vector<std::string> cost_shape_names() {
  std::vector<std::string> names;
  for (const PublishedShape& m : kPublished) names.emplace_back(m.name);
  return names;
}

CostShape load_cost_shape(const std::string& name, const Model& model) {
  if (name == "own") return own_shape(model);
  for (const PublishedShape& m : kPublished) {
    if (name == m.name) return from(m);
  }
  throw InputError(
      fmt::format("cost shape '{}' is not known: choose own or one of {}", name, fmt::join(cost_shape_names(), ", ")));
}

std::string to_json(const CostShape& s) {
  const nlohmann::ordered_json j = {{"name", s.name},
                                    {"width", s.width},
                                    {"expert_parameters", s.expert_parameters},
                                    {"expert_bytes", s.expert_bytes},
                                    {"attention_parameters", s.attention_parameters},
                                    {"attention_bytes", s.attention_bytes},
                                    {"kv_bytes_per_token", s.kv_bytes_per_token},
                                    {"attention_flops_per_position", s.attention_flops_per_position},
                                    {"head_parameters", s.head_parameters},
                                    {"head_bytes", s.head_bytes},
                                    {"embedding_bytes", s.embedding_bytes}};
  return j.dump();
}

CostShape parse_cost_shape(const std::string& json_text) {
  const nlohmann::json root = parse_json(json_text, "cost shape");
  JsonFields f(root, "cost shape");
  constexpr double kMax = 1e15;
  constexpr std::int64_t kMaxBytes = std::int64_t{1} << 50;
  CostShape s;
  s.name = f.text("name");
  s.width = f.number("width", 1, kMax);
  s.expert_parameters = f.number("expert_parameters", 1, kMax);
  s.expert_bytes = f.integer("expert_bytes", 1, kMaxBytes);
  s.attention_parameters = f.number("attention_parameters", 0, kMax);
  s.attention_bytes = f.integer("attention_bytes", 0, kMaxBytes);
  s.kv_bytes_per_token = f.integer("kv_bytes_per_token", 0, kMaxBytes);
  s.attention_flops_per_position = f.number("attention_flops_per_position", 0, kMax);
  s.head_parameters = f.number("head_parameters", 0, kMax);
  s.head_bytes = f.integer("head_bytes", 0, kMaxBytes);
  s.embedding_bytes = f.integer("embedding_bytes", 0, kMaxBytes);
  f.refuse_others();
  return s;
}

}  // namespace expertscope
