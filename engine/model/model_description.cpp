#include "engine/model/model_description.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <string>
#include <unordered_set>

#include "engine/model/gguf_reader.h"
#include "engine/model/tensor_names.h"
#include "engine/model/text_escape.h"
#include "engine/model/weight_matrix.h"

namespace expertscope {

namespace {

constexpr std::int64_t kMaxWidth = 65'536;
constexpr std::int64_t kMaxVocab = 1 << 24;
constexpr std::int64_t kMaxContext = 1 << 20;

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text = "{";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "}";
}

// The tensors a loader has asked for. What it did not ask for would be left out of the computation and give wrong text,
// so it is refused.
class TensorChecklist {
 public:
  explicit TensorChecklist(const GgufReader& file) : file_(file) {}

  const GgufTensor* find(const std::string& name, const std::vector<std::int64_t>& shape) {
    const GgufTensor* tensor = file_.find_tensor(name);
    if (!tensor) return nullptr;
    if (tensor->shape != shape) {
      file_.fail_tensor(name,
                        "has shape " + shape_text(tensor->shape) + " where the metadata asks for " + shape_text(shape));
    }
    seen_.insert(tensor);
    return tensor;
  }

  const GgufTensor& expect(const std::string& name, const std::vector<std::int64_t>& shape) {
    const GgufTensor* tensor = find(name, shape);
    if (!tensor) file_.fail_tensor(name, "is missing; the file is incomplete, convert the model again");
    return *tensor;
  }

  void refuse_the_rest() const {
    for (const GgufTensor& tensor : file_.tensors()) {
      if (!seen_.contains(&tensor)) {
        file_.fail_tensor(tensor.name,
                          "is not part of the architecture as supported; without it the model would give wrong text");
      }
    }
  }

 private:
  const GgufReader& file_;
  std::unordered_set<const GgufTensor*> seen_;
};

int whole(const GgufReader& file, const std::string& key, std::int64_t min, std::int64_t max) {
  return static_cast<int>(file.integer(key, min, max));
}

double number(const GgufReader& file, const std::string& key, double min, double max, std::optional<double> absent) {
  const std::optional<double> value = file.has(key) || !absent ? file.find_number(key) : absent;
  if (!value) file.fail_key(key, "is missing; the file is incomplete, convert the model again");
  if (!(*value >= min && *value <= max)) {
    file.fail_key(key, "is " + std::to_string(*value) + "; it must be from " + std::to_string(min) + " to " +
                           std::to_string(max));
  }
  return *value;
}

// One value for all layers, written once or once a layer.
std::int64_t same_for_all_layers(const GgufReader& file, const std::string& key, int layers, std::int64_t min,
                                 std::int64_t max) {
  const std::vector<std::int64_t> values = file.integers(key);
  if (values.size() != 1 && values.size() != static_cast<std::size_t>(layers)) {
    file.fail_key(key, "has " + std::to_string(values.size()) + " entries for " + std::to_string(layers) + " layers");
  }
  for (const std::int64_t value : values) {
    if (value != values[0]) file.fail_key(key, "differs between layers, which is not supported");
  }
  if (values[0] < min || values[0] > max) {
    file.fail_key(key, "is " + std::to_string(values[0]) + "; it must be from " + std::to_string(min) + " to " +
                           std::to_string(max));
  }
  return values[0];
}

void require_multiple(const GgufReader& file, const std::string& key, std::int64_t value, int of) {
  if (value % of != 0) {
    file.fail_key(key, "gives rows of " + std::to_string(value) + " values; the kernels need a multiple of " +
                           std::to_string(of));
  }
}

void read_attention(const GgufReader& file, const std::string& prefix, ModelDescription& d) {
  d.heads = whole(file, prefix + "attention.head_count", 1, 4096);
  d.kv_heads = d.heads;
  const std::string kv_key = prefix + "attention.head_count_kv";
  if (file.has(kv_key)) d.kv_heads = static_cast<int>(same_for_all_layers(file, kv_key, d.layers, 1, d.heads));
  if (d.heads % d.kv_heads != 0) {
    file.fail_key(kv_key, "is " + std::to_string(d.kv_heads) + ", which does not divide " + std::to_string(d.heads) +
                              " query heads");
  }
  const std::string key_length = prefix + "attention.key_length";
  if (!file.has(key_length) && d.width % d.heads != 0) {
    file.fail_key(prefix + "attention.head_count", "does not divide the model's width and no key_length is given");
  }
  d.head_dim = static_cast<int>(file.integer_or(key_length, 8, 4096, d.width / d.heads));
  if (d.head_dim % 8 != 0 || d.q_width() % kQuantBlock != 0) {
    file.fail("heads of " + std::to_string(d.head_dim) +
              " values are not supported; the kernels need a multiple of 8, and of "
              "32 for all heads together");
  }
  const std::string value_length = prefix + "attention.value_length";
  if (file.integer_or(value_length, 1, 4096, d.head_dim) != d.head_dim) {
    file.fail_key(value_length, "differs from the length of keys, which is not supported");
  }
  const std::string window = prefix + "attention.sliding_window";
  const std::int64_t window_tokens = file.integer_or(window, 0, std::numeric_limits<std::int64_t>::max(), 0);
  if (window_tokens > 0 && window_tokens < d.context)
    file.fail_key(window, "asks for windowed attention, which is not supported");
  d.norm_eps = static_cast<float>(number(file, prefix + "attention.layer_norm_rms_epsilon", 1e-12, 0.1, std::nullopt));
}

void read_rope(const GgufReader& file, const std::string& prefix, ModelDescription& d) {
  d.rope.base = number(file, prefix + "rope.freq_base", 1.001, 1e12, 10000);
  d.rope.dims = static_cast<int>(file.integer_or(prefix + "rope.dimension_count", 2, d.head_dim, d.head_dim));
  if (d.rope.dims % 2 != 0) file.fail_key(prefix + "rope.dimension_count", "is odd; values are rotated in pairs");
  const std::string scaling = prefix + "rope.scaling.type";
  if (const auto type = file.find_string(scaling); type && *type != "none") {
    file.fail_key(scaling, "asks for scaled rotary positions, which are not supported");
  }
  const std::string linear = prefix + "rope.scale_linear";
  if (file.has(linear) && number(file, linear, 0, 1e9, 1) != 1) {
    file.fail_key(linear, "asks for scaled rotary positions, which are not supported");
  }
}

void read_router(const GgufReader& file, const std::string& prefix, ModelDescription& d) {
  const std::string count = prefix + "expert_count", used = prefix + "expert_used_count";
  if (file.integer_or(count, 0, std::numeric_limits<std::int64_t>::max(), 0) == 0) {
    file.fail_key(count,
                  "is missing or 0: this is not a mixture-of-experts model, so there are no experts to offload; "
                  "choose one such as Mixtral");
  }
  d.router.experts = whole(file, count, 1, kMaxExperts);
  d.router.top_k = whole(file, used, 1, std::numeric_limits<std::int32_t>::max());
  if (d.router.top_k > d.router.experts) {
    file.fail_key(used, "is " + std::to_string(d.router.top_k) + ", more than the " + std::to_string(d.router.experts) +
                            " experts of a layer");
  }
  if (d.router.top_k > kMaxTopK) {
    file.fail_key(used,
                  "is " + std::to_string(d.router.top_k) + "; at most " + std::to_string(kMaxTopK) + " are supported");
  }
  const std::string gating = prefix + "expert_gating_func";
  switch (file.integer_or(gating, 0, 255, 1)) {
    case 0:  // unset
    case 1:
      d.router.gate = RouterGate::softmax;
      break;
    case 2:
      d.router.gate = RouterGate::sigmoid;
      break;
    case 3:
      d.router.gate = RouterGate::none;
      d.router.softmax_on_selected = true;
      break;
    default:
      file.fail_key(
          gating, "names a gate that is not supported; softmax (1), sigmoid (2) and softmax over the selected (3) are");
  }
  d.router.scale = static_cast<float>(number(file, prefix + "expert_weights_scale", 1e-6, 1e6, 1));
  for (const char* unsupported : {"expert_shared_count", "leading_dense_block_count", "interleave_moe_layer_step"}) {
    if (file.integer_or(prefix + unsupported, 0, std::numeric_limits<std::int64_t>::max(), 0) >
        (unsupported[0] == 'i' ? 1 : 0)) {
      file.fail_key(prefix + unsupported,
                    "asks for layers that are not made of routed experts alone, which is not supported");
    }
  }
}

// The blob: quants of gate, up, down, then their scales. Planes of quants come first because their sizes are multiples
// of 16 bytes, which keeps every one of them aligned for wide loads without padding.
ExpertBlobLayout blob_layout(TensorType gate, TensorType up, TensorType down, int width, int ff) {
  ExpertBlobLayout layout;
  layout.gate = {gate, ff, width, 0, 0};
  layout.up = {up, ff, width, 0, 0};
  layout.down = {down, width, ff, 0, 0};
  const std::int64_t values = std::int64_t{width} * ff;
  for (ExpertMatrix* matrix : {&layout.gate, &layout.up, &layout.down}) {
    matrix->quants_offset = layout.bytes;
    layout.bytes += quants_bytes(matrix->type, values);
  }
  for (ExpertMatrix* matrix : {&layout.gate, &layout.up, &layout.down}) {
    matrix->scales_offset = layout.bytes;
    layout.bytes += scales_bytes(matrix->type, values);
  }
  return layout;
}

// Type of one of the three expert matrices of a layer, from one tensor for all experts, one for their gates and ups
// together or (early files) one for each.
TensorType expert_type(const GgufReader& file, TensorChecklist& tensors, int layer, std::string_view part, int cols,
                       int rows, int experts) {
  if (part != "down") {
    if (const GgufTensor* both = tensors.find(gate_up_experts_name(layer), {cols, 2 * std::int64_t{rows}, experts}))
      return both->type;
  }
  if (const GgufTensor* merged = tensors.find(merged_experts_name(layer, part), {cols, rows, experts}))
    return merged->type;
  if (!file.find_tensor(single_expert_name(layer, part, 0)))
    tensors.expect(merged_experts_name(layer, part), {cols, rows, experts});
  const TensorType type = tensors.expect(single_expert_name(layer, part, 0), {cols, rows}).type;
  for (int expert = 1; expert < experts; ++expert) {
    const std::string name = single_expert_name(layer, part, expert);
    if (tensors.expect(name, {cols, rows}).type != type) {
      file.fail_tensor(name, "has another type than expert 0 of the same layer, which is not supported");
    }
  }
  return type;
}

// What tells one architecture from another where all of a layer's parts are the same: attention, then routed experts.
struct Architecture {
  std::string_view name;
  RopeStyle rope_style = RopeStyle::interleaved;
  QkNorm qk_norm = QkNorm::none;
  bool renormalise = true;  // picks' weights add up to 1, whatever the file says
  // Without a width of its own for experts, the file's feed_forward_length is that of all picks of a token together.
  bool shares_ff = false;
};
constexpr Architecture kArchitectures[] = {
    {"llama", RopeStyle::interleaved, QkNorm::none, true},  // the converter permutes the rows of q and k
    {"qwen3moe", RopeStyle::halves, QkNorm::per_head, true, true},
    {"olmoe", RopeStyle::halves, QkNorm::whole, false},
};

int read_expert_ff(const GgufReader& file, const std::string& prefix, bool shares_ff, const ModelDescription& d) {
  const std::string own = prefix + "expert_feed_forward_length", shared = prefix + "feed_forward_length";
  const std::string& key = file.has(own) ? own : shared;
  const int parts = shares_ff && !file.has(own) ? d.router.top_k : 1;
  const auto ff = static_cast<int>(same_for_all_layers(file, key, d.layers, kQuantBlock, kMaxWidth * 4 * parts));
  require_multiple(file, key, ff, kQuantBlock * parts);
  return ff / parts;
}

void check_layer_tensors(TensorChecklist& tensors, const ModelDescription& d, int layer) {
  const auto expect = [&](const char* part, const std::vector<std::int64_t>& shape) {
    tensors.expect(layer_tensor_name(layer, part), shape);
  };
  expect("attn_norm", {d.width});
  expect("attn_q", {d.width, d.q_width()});
  expect("attn_k", {d.width, d.kv_width()});
  expect("attn_v", {d.width, d.kv_width()});
  expect("attn_output", {d.q_width(), d.width});
  if (d.qk_norm != QkNorm::none) {
    const bool per_head = d.qk_norm == QkNorm::per_head;
    expect("attn_q_norm", {per_head ? d.head_dim : d.q_width()});
    expect("attn_k_norm", {per_head ? d.head_dim : d.kv_width()});
  }
  expect("ffn_norm", {d.width});
  expect("ffn_gate_inp", {d.width, d.router.experts});
}

void check_tensors(const GgufReader& file, const std::string& prefix, ModelDescription& d) {
  TensorChecklist tensors(file);
  const GgufTensor* embedding = file.find_tensor("token_embd.weight");
  if (!embedding) file.fail_tensor("token_embd.weight", "is missing; the file is incomplete, convert the model again");
  const std::int64_t rows = embedding->shape.size() == 2 ? embedding->shape[1] : 0;
  if (rows < 1 || rows > kMaxVocab)
    file.fail_tensor("token_embd.weight", "has shape " + shape_text(embedding->shape) + ", which is no embedding");
  d.vocab = static_cast<int>(file.integer_or(prefix + "vocab_size", 1, kMaxVocab, rows));
  tensors.expect("token_embd.weight", {d.width, d.vocab});
  tensors.expect("output_norm.weight", {d.width});
  d.tied_output = tensors.find("output.weight", {d.width, d.vocab}) == nullptr;
  for (int layer = 0; layer < d.layers; ++layer) {
    check_layer_tensors(tensors, d, layer);
    const auto type = [&](std::string_view part, int cols, int out) {
      return expert_type(file, tensors, layer, part, cols, out, d.router.experts);
    };
    const TensorType gate = type("gate", d.width, d.expert_ff), up = type("up", d.width, d.expert_ff);
    d.expert_blob.push_back(blob_layout(gate, up, type("down", d.expert_ff, d.width), d.width, d.expert_ff));
  }
  tensors.refuse_the_rest();
}

ModelDescription describe(const GgufReader& file, const Architecture& architecture) {
  const std::string prefix = std::string(architecture.name) + ".";
  ModelDescription d;
  d.architecture = architecture.name;
  d.name = file.find_string("general.name").value_or(file.path().filename().string());
  read_router(file, prefix, d);  // first: a dense model is told so before anything else
  d.router.renormalise = architecture.renormalise;
  d.layers = whole(file, prefix + "block_count", 1, kMaxLayers);
  d.width = whole(file, prefix + "embedding_length", kQuantBlock, kMaxWidth);
  require_multiple(file, prefix + "embedding_length", d.width, kQuantBlock);
  d.context = whole(file, prefix + "context_length", 1, kMaxContext);
  read_attention(file, prefix, d);
  read_rope(file, prefix, d);
  d.rope.style = architecture.rope_style;
  d.qk_norm = architecture.qk_norm;
  d.expert_ff = read_expert_ff(file, prefix, architecture.shares_ff, d);
  check_tensors(file, prefix, d);
  return d;
}

}  // namespace

ModelDescription describe_model(const GgufReader& file) {
  const std::string name = file.string("general.architecture");
  std::string supported;
  for (const Architecture& architecture : kArchitectures) {
    if (architecture.name == name) return describe(file, architecture);
    supported += (supported.empty() ? "" : ", ") + std::string(architecture.name);
  }
  file.fail_key("general.architecture",
                "is '" + escaped(name) + "', which is not supported; these are, with experts: " + supported);
}

}  // namespace expertscope
