#include "engine/model/tensor_type.h"

#include <utility>

namespace expertscope {

namespace {

constexpr std::pair<std::uint32_t, std::string_view> kGgmlTypes[] = {
    {0, "F32"},      {1, "F16"},     {2, "Q4_0"},     {3, "Q4_1"},   {6, "Q5_0"},    {7, "Q5_1"},   {8, "Q8_0"},
    {9, "Q8_1"},     {10, "Q2_K"},   {11, "Q3_K"},    {12, "Q4_K"},  {13, "Q5_K"},   {14, "Q6_K"},  {15, "Q8_K"},
    {16, "IQ2_XXS"}, {17, "IQ2_XS"}, {18, "IQ3_XXS"}, {19, "IQ1_S"}, {20, "IQ4_NL"}, {21, "IQ3_S"}, {22, "IQ2_S"},
    {23, "IQ4_XS"},  {24, "I8"},     {25, "I16"},     {26, "I32"},   {27, "I64"},    {28, "F64"},   {29, "IQ1_M"},
    {30, "BF16"},    {34, "TQ1_0"},  {35, "TQ2_0"},   {39, "MXFP4"}, {40, "NVFP4"},  {41, "Q1_0"},  {42, "Q2_0"}};

}  // namespace

std::uint32_t ggml_type_id(TensorType type) {
  switch (type) {
    case TensorType::f32:
      return 0;
    case TensorType::f16:
      return 1;
    case TensorType::bf16:
      return 30;
    case TensorType::q8_0:
      return 8;
    case TensorType::q4_0:
      return 2;
    case TensorType::q4_k:
      return 12;
    case TensorType::q5_k:
      return 13;
    case TensorType::q6_k:
      return 14;
  }
  return 0;
}

std::string_view name(TensorType type) {
  for (const auto& [id, text] : kGgmlTypes) {
    if (id == ggml_type_id(type)) return text;
  }
  return "?";
}

std::string supported_tensor_type_names() {
  std::string names;
  for (const TensorType type : kTensorTypes) names += (names.empty() ? "" : ", ") + std::string(name(type));
  return names;
}

std::optional<TensorType> supported_tensor_type(std::uint32_t ggml_id) {
  for (const TensorType type : kTensorTypes) {
    if (ggml_type_id(type) == ggml_id) return type;
  }
  return std::nullopt;
}

std::string ggml_type_name(std::uint32_t ggml_id) {
  for (const auto& [id, type] : kGgmlTypes) {
    if (id == ggml_id) return std::string(type);
  }
  return "type " + std::to_string(ggml_id) + " (unknown)";
}

}  // namespace expertscope
