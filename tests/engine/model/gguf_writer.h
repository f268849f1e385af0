// Writes small GGUF files in memory, valid or broken on purpose.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <unistd.h>

#include "engine/model/gguf_reader.h"
#include "engine/model/tensor_type.h"

namespace expertscope {

class GgufWriter {
 public:
  struct Tensor {
    std::string name;
    std::vector<std::int64_t> shape;
    std::uint32_t type_id = 0;
    std::string data;
    std::optional<std::uint64_t> offset;  // set to override the right one
  };

  std::uint32_t version = 3;
  std::int64_t alignment = 32;                               // of the layout; the key is written only by the caller
  std::vector<std::pair<std::string, std::string>> entries;  // key, encoded type and value
  std::vector<Tensor> tensors;

  template <typename T>
  static std::string raw(T value) {
    std::string bytes(sizeof value, '\0');
    std::memcpy(bytes.data(), &value, sizeof value);
    return bytes;
  }
  static std::string text(std::string_view value) { return raw(std::uint64_t{value.size()}) + std::string(value); }
  static std::string typed(GgufType type, const std::string& value) {
    return raw(static_cast<std::uint32_t>(type)) + value;
  }

  void set(const std::string& key, const std::string& encoded) {
    for (auto& [name, value] : entries) {
      if (name == key) {
        value = encoded;
        return;
      }
    }
    entries.emplace_back(key, encoded);
  }
  void erase(const std::string& key) {
    std::erase_if(entries, [&](const auto& entry) { return entry.first == key; });
  }
  void set_u32(const std::string& key, std::uint32_t value) { set(key, typed(GgufType::u32, raw(value))); }
  void set_f32(const std::string& key, float value) { set(key, typed(GgufType::f32, raw(value))); }
  void set_bool(const std::string& key, std::uint8_t value) { set(key, typed(GgufType::boolean, raw(value))); }
  void set_string(const std::string& key, std::string_view value) { set(key, typed(GgufType::string, text(value))); }
  void set_array(const std::string& key, GgufType element, std::uint64_t count, const std::string& items) {
    set(key, typed(GgufType::array, raw(static_cast<std::uint32_t>(element)) + raw(count) + items));
  }
  template <typename T>
  void set_numbers(const std::string& key, GgufType element, const std::vector<T>& values) {
    std::string items;
    for (const T value : values) items += raw(value);
    set_array(key, element, values.size(), items);
  }
  void set_strings(const std::string& key, const std::vector<std::string>& values) {
    std::string items;
    for (const std::string& value : values) items += text(value);
    set_array(key, GgufType::string, values.size(), items);
  }

  Tensor& tensor(const std::string& name) {
    for (Tensor& t : tensors) {
      if (t.name == name) return t;
    }
    throw std::out_of_range(name);
  }

  // Everything before the tensor data, without its padding.
  std::string header() const {
    std::string out = "GGUF" + raw(version) + raw(std::uint64_t{tensors.size()}) + raw(std::uint64_t{entries.size()});
    for (const auto& [key, value] : entries) out += text(key) + value;
    std::uint64_t offset = 0;
    for (const Tensor& t : tensors) {
      out += text(t.name) + raw(static_cast<std::uint32_t>(t.shape.size()));
      for (const std::int64_t extent : t.shape) out += raw(extent);
      out += raw(t.type_id) + raw(t.offset.value_or(offset));
      offset += padded(t.data).size();
    }
    return out;
  }

  std::string file() const {
    std::string out = padded(header());
    for (const Tensor& t : tensors) out += padded(t.data);
    return out;
  }

 private:
  std::string padded(std::string bytes) const {
    const auto unit = static_cast<std::size_t>(alignment);
    bytes.resize((bytes.size() + unit - 1) / unit * unit, '\0');
    return bytes;
  }
};

// A file that is removed at the end of its scope.
class TemporaryFile {
 public:
  explicit TemporaryFile(std::string_view bytes = {}) {
    static int count = 0;
    path_ = std::filesystem::temp_directory_path() /
            ("expertscope-test-" + std::to_string(::getpid()) + "-" + std::to_string(count++) + ".gguf");
    write(bytes);
  }
  ~TemporaryFile() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  void write(std::string_view bytes) {
    std::ofstream(path_, std::ios::binary | std::ios::trunc).write(bytes.data(), std::ssize(bytes));
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// Random tensor data of a type, small values.
inline std::string random_tensor_data(TensorType type, std::int64_t values, std::mt19937& random) {
  std::string out;
  const auto small = [&random] { return static_cast<float>(static_cast<int>(random() % 2001) - 1000) * 1e-4f; };
  for (std::int64_t i = 0; i < values / block_values(type); ++i) {
    switch (type) {
      case TensorType::f32:
        out += GgufWriter::raw(small());
        break;
      case TensorType::f16:
        out += GgufWriter::raw(static_cast<std::uint16_t>(0x2800 + random() % 0x400 + (random() % 2 << 15)));
        break;
      case TensorType::bf16: {
        const float value = small();
        std::uint32_t bits;
        std::memcpy(&bits, &value, sizeof bits);
        out += GgufWriter::raw(static_cast<std::uint16_t>(bits >> 16));
        break;
      }
      case TensorType::q8_0:
      case TensorType::q4_0:
        out += GgufWriter::raw(
            static_cast<std::uint16_t>((type == TensorType::q8_0 ? 0x1000 : 0x2000) + random() % 0x400));
        for (std::int64_t b = 2; b < block_bytes(type); ++b) out += static_cast<char>(random());
        break;
      case TensorType::q4_k:
      case TensorType::q5_k:  // minima of about the mean, so that values are of both signs
        out += GgufWriter::raw(static_cast<std::uint16_t>(0x0800 + random() % 0x400));
        out += GgufWriter::raw(
            static_cast<std::uint16_t>((type == TensorType::q4_k ? 0x1400 : 0x1800) + random() % 0x400));
        for (std::int64_t b = 4; b < block_bytes(type); ++b) out += static_cast<char>(random());
        break;
      case TensorType::q6_k:
        for (std::int64_t b = 2; b < block_bytes(type); ++b) out += static_cast<char>(random());
        out += GgufWriter::raw(static_cast<std::uint16_t>(0x0400 + random() % 0x400));
        break;
    }
  }
  return out;
}

struct TinyShape {
  int layers = 2, width = 32, heads = 2, kv_heads = 1, experts = 4, top_k = 2, ff = 32, context = 64;
  TensorType expert_type = TensorType::q8_0, down_type = TensorType::q8_0, dense_type = TensorType::q8_0;
  bool tied = true;
  bool one_tensor_per_expert = false;
};

// A whole small mixture-of-experts model of the llama architecture: 3 special tokens, 256 byte tokens and "▁", "a",
// "▁a".
inline GgufWriter tiny_model(const TinyShape& s = {}) {
  GgufWriter w;
  std::mt19937 random(7);
  w.set_string("general.architecture", "llama");
  w.set_string("general.name", "tiny");
  w.set_u32("llama.block_count", static_cast<std::uint32_t>(s.layers));
  w.set_u32("llama.context_length", static_cast<std::uint32_t>(s.context));
  w.set_u32("llama.embedding_length", static_cast<std::uint32_t>(s.width));
  w.set_u32("llama.feed_forward_length", static_cast<std::uint32_t>(s.ff));
  w.set_u32("llama.attention.head_count", static_cast<std::uint32_t>(s.heads));
  w.set_u32("llama.attention.head_count_kv", static_cast<std::uint32_t>(s.kv_heads));
  w.set_f32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  w.set_u32("llama.expert_count", static_cast<std::uint32_t>(s.experts));
  w.set_u32("llama.expert_used_count", static_cast<std::uint32_t>(s.top_k));
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
  std::vector<std::int32_t> types = {2, 3, 3};
  for (int b = 0; b < 256; ++b) {
    char piece[8];
    std::snprintf(piece, sizeof piece, "<0x%02X>", static_cast<unsigned>(b));
    tokens.emplace_back(piece);
    types.push_back(6);
  }
  for (const char* piece : {"\xe2\x96\x81", "a",
                            "\xe2\x96\x81"
                            "a"}) {
    tokens.emplace_back(piece);
    types.push_back(1);
  }
  const auto vocab = static_cast<std::int64_t>(tokens.size());
  w.set_string("tokenizer.ggml.model", "llama");
  w.set_strings("tokenizer.ggml.tokens", tokens);
  w.set_numbers("tokenizer.ggml.scores", GgufType::f32, std::vector<float>(tokens.size(), 0));
  w.set_numbers("tokenizer.ggml.token_type", GgufType::i32, types);
  w.set_u32("tokenizer.ggml.bos_token_id", 1);
  w.set_u32("tokenizer.ggml.eos_token_id", 2);
  const auto add = [&](const std::string& name, std::vector<std::int64_t> shape, TensorType type) {
    std::int64_t values = 1;
    for (const std::int64_t extent : shape) values *= extent;
    w.tensors.push_back(
        {name + ".weight", std::move(shape), ggml_type_id(type), random_tensor_data(type, values, random), {}});
  };
  const std::int64_t width = s.width, q = width, kv = width / s.heads * s.kv_heads, ff = s.ff, experts = s.experts;
  add("token_embd", {width, vocab}, s.dense_type);
  add("output_norm", {width}, TensorType::f32);
  if (!s.tied) add("output", {width, vocab}, s.dense_type);
  for (int layer = 0; layer < s.layers; ++layer) {
    const std::string b = "blk." + std::to_string(layer) + ".";
    add(b + "attn_norm", {width}, TensorType::f32);
    add(b + "attn_q", {width, q}, s.dense_type);
    add(b + "attn_k", {width, kv}, s.dense_type);
    add(b + "attn_v", {width, kv}, s.dense_type);
    add(b + "attn_output", {q, width}, s.dense_type);
    add(b + "ffn_norm", {width}, TensorType::f32);
    add(b + "ffn_gate_inp", {width, experts}, TensorType::f32);
    for (const auto& [part, in, out, type] :
         {std::tuple{"gate", width, ff, s.expert_type}, std::tuple{"up", width, ff, s.expert_type},
          std::tuple{"down", ff, width, s.down_type}}) {
      const std::string name = b + "ffn_" + part;
      if (!s.one_tensor_per_expert)
        add(name + "_exps", {in, out, experts}, type);
      else
        for (int e = 0; e < s.experts; ++e) add(name + "." + std::to_string(e), {in, out}, type);
    }
  }
  return w;
}

}  // namespace expertscope
