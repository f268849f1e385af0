// Element types of GGUF tensors that the engine computes with, and how many bytes their values take.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace expertscope {

enum class TensorType : std::uint8_t { f32, f16, bf16, q8_0, q4_0, q4_k, q5_k, q6_k };

// Rows of all matrices are a multiple of this many values. Q8_0 and Q4_0 share one scale among so many neighbours.
inline constexpr int kQuantBlock = 32;

// How a type's values lie in the file, and in the two planes of a WeightMatrix. The blocks of the file are the pieces
// that rows are made of; a row never shares a block with another.
struct TensorTypeLayout {
  int block_values;  // in one block, here and there
  int block_bytes;   // of a block in the file
  int quants_bytes;  // of a block in the plane of quants
  int scales_bytes;  // of a block in the plane of scales; 0: the type has no such plane
};
constexpr TensorTypeLayout layout_of(TensorType type) {
  switch (type) {
    case TensorType::f32:
      return {1, 4, 4, 0};
    case TensorType::f16:
      return {1, 2, 2, 0};
    case TensorType::bf16:
      return {1, 2, 2, 0};
    case TensorType::q8_0:  // float16 d, int8 quants[32]: the scales are d
      return {32, 34, 32, 2};
    case TensorType::q4_0:  // float16 d, nibbles[16]: the scales are d
      return {32, 18, 16, 2};
    case TensorType::q4_k:  // float16 d, dmin, packed scales[12], nibbles[128]; as in the file
      return {256, 144, 144, 0};
    case TensorType::q5_k:  // float16 d, dmin, packed scales[12], fifth bits[32], nibbles[128]; as in the file
      return {256, 176, 176, 0};
    case TensorType::q6_k:  // nibbles[128], upper bits[64], int8 scales[16], float16 d: the scales are d
      return {256, 210, 208, 2};
  }
  return {1, 0, 0, 0};
}

constexpr bool is_quantised(TensorType type) {
  return layout_of(type).block_values > 1;
}
constexpr bool has_scales_plane(TensorType type) {
  return layout_of(type).scales_bytes > 0;
}
constexpr std::int64_t block_values(TensorType type) {
  return layout_of(type).block_values;
}
constexpr std::int64_t block_bytes(TensorType type) {
  return layout_of(type).block_bytes;
}

// In the file; `values` is a multiple of block_values(type).
constexpr std::int64_t tensor_bytes(TensorType type, std::int64_t values) {
  return values / block_values(type) * block_bytes(type);
}

std::string_view name(TensorType);  // "F32", "Q8_0", …

// Every type of the enumeration, in its order.
inline constexpr TensorType kTensorTypes[] = {TensorType::f32,  TensorType::f16,  TensorType::bf16, TensorType::q8_0,
                                              TensorType::q4_0, TensorType::q4_k, TensorType::q5_k, TensorType::q6_k};
std::string supported_tensor_type_names();  // "F32, F16, …", for messages

std::uint32_t ggml_type_id(TensorType);
std::optional<TensorType> supported_tensor_type(std::uint32_t ggml_id);

// The name of any ggml type id, supported or not, for messages: "Q3_K", "type 77 (unknown)".
std::string ggml_type_name(std::uint32_t ggml_id);

}  // namespace expertscope
