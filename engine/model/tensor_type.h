// Element types of GGUF tensors that the engine computes with, and how many bytes their values take.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace expertscope {

enum class TensorType : std::uint8_t { f32, f16, bf16, q8_0, q4_0 };

// Quantised types share one scale among this many neighbours of a row.
inline constexpr int kQuantBlock = 32;

constexpr bool is_quantised(TensorType type) {
  return type == TensorType::q8_0 || type == TensorType::q4_0;
}

// Values per block and bytes per block of the file.
constexpr std::int64_t block_values(TensorType type) {
  return is_quantised(type) ? kQuantBlock : 1;
}
constexpr std::int64_t block_bytes(TensorType type) {
  switch (type) {
    case TensorType::f32:
      return 4;
    case TensorType::f16:
      return 2;
    case TensorType::bf16:
      return 2;
    case TensorType::q8_0:
      return 2 + 32;
    case TensorType::q4_0:
      return 2 + 16;
  }
  return 0;
}

// `values` is a multiple of block_values(type).
constexpr std::int64_t tensor_bytes(TensorType type, std::int64_t values) {
  return values / block_values(type) * block_bytes(type);
}

std::string_view name(TensorType);  // "F32", "Q8_0", …

std::optional<TensorType> supported_tensor_type(std::uint32_t ggml_id);

// The name of any ggml type id, supported or not, for messages: "Q4_K", "type 77 (unknown)".
std::string ggml_type_name(std::uint32_t ggml_id);

}  // namespace expertscope
