#include "engine/synth/gguf_layout.h"

#include <type_traits>

#include "engine/assert.h"

namespace expertscope {
namespace {

// Value types of the format.
enum ValueType : std::uint32_t { kU32 = 4, kI32 = 5, kF32 = 6, kBool = 7, kString = 8, kArray = 9, kU64 = 10 };

template <typename T>
void put(std::string& out, T value) {
  static_assert(std::is_trivially_copyable_v<T>);
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void put_string(std::string& out, std::string_view text) {
  put<std::uint64_t>(out, text.size());
  out += text;
}

std::int64_t padded(std::int64_t bytes) {
  return (bytes + GgufLayout::kAlignment - 1) / GgufLayout::kAlignment * GgufLayout::kAlignment;
}

}  // namespace

void GgufLayout::begin_entry(std::string_view key, std::uint32_t type) {
  put_string(metadata_, key);
  put(metadata_, type);
  ++entries_;
}

void GgufLayout::begin_array(std::string_view key, std::uint32_t element_type, std::size_t count) {
  begin_entry(key, kArray);
  put(metadata_, element_type);
  put<std::uint64_t>(metadata_, count);
}

void GgufLayout::add_bool(std::string_view key, bool value) {
  begin_entry(key, kBool);
  put<std::uint8_t>(metadata_, value ? 1 : 0);
}
void GgufLayout::add_u32(std::string_view key, std::uint32_t value) {
  begin_entry(key, kU32);
  put(metadata_, value);
}
void GgufLayout::add_u64(std::string_view key, std::uint64_t value) {
  begin_entry(key, kU64);
  put(metadata_, value);
}
void GgufLayout::add_f32(std::string_view key, float value) {
  begin_entry(key, kF32);
  put(metadata_, value);
}
void GgufLayout::add_string(std::string_view key, std::string_view value) {
  begin_entry(key, kString);
  put_string(metadata_, value);
}
void GgufLayout::add_strings(std::string_view key, const std::vector<std::string>& values) {
  begin_array(key, kString, values.size());
  for (const std::string& value : values) put_string(metadata_, value);
}
void GgufLayout::add_floats(std::string_view key, const std::vector<float>& values) {
  begin_array(key, kF32, values.size());
  for (const float value : values) put(metadata_, value);
}
void GgufLayout::add_ints(std::string_view key, const std::vector<std::int32_t>& values) {
  begin_array(key, kI32, values.size());
  for (const std::int32_t value : values) put(metadata_, value);
}

void GgufLayout::add_tensor(std::string name, std::vector<std::int64_t> shape, TensorType type) {
  ES_ASSERT(!shape.empty() && shape[0] % block_values(type) == 0, "a row of a tensor is not made of whole blocks");
  Tensor tensor{.name = std::move(name), .shape = std::move(shape), .type = type, .values = 1, .offset = data_bytes_};
  for (const std::int64_t extent : tensor.shape) tensor.values *= extent;
  tensor.bytes = tensor_bytes(type, tensor.values);
  data_bytes_ += padded(tensor.bytes);
  tensors_.push_back(std::move(tensor));
}

std::string GgufLayout::header() const {
  std::string out = "GGUF";
  put<std::uint32_t>(out, 3);
  put<std::uint64_t>(out, tensors_.size());
  put<std::uint64_t>(out, entries_);
  out += metadata_;
  for (const Tensor& tensor : tensors_) {
    put_string(out, tensor.name);
    put<std::uint32_t>(out, static_cast<std::uint32_t>(tensor.shape.size()));
    for (const std::int64_t extent : tensor.shape) put(out, extent);
    put(out, ggml_type_id(tensor.type));
    put(out, tensor.offset);
  }
  out.resize(static_cast<std::size_t>(padded(static_cast<std::int64_t>(out.size()))), '\0');
  return out;
}

}  // namespace expertscope
