// Names of tensors in GGUF files.
#pragma once

#include <string>
#include <string_view>

namespace expertscope {

inline std::string layer_tensor_name(int layer, std::string_view part) {
  return "blk." + std::to_string(layer) + "." + std::string(part) + ".weight";
}

// `part` is gate, up or down. One tensor for all experts of a layer:
inline std::string merged_experts_name(int layer, std::string_view part) {
  return layer_tensor_name(layer, "ffn_" + std::string(part) + "_exps");
}
// In some, gate and up of a layer's experts together: of each expert first the rows of gate, then those of up.
inline std::string gate_up_experts_name(int layer) {
  return layer_tensor_name(layer, "ffn_gate_up_exps");
}
// In early files, one for each expert:
inline std::string single_expert_name(int layer, std::string_view part, int expert) {
  return layer_tensor_name(layer, "ffn_" + std::string(part) + "." + std::to_string(expert));
}

}  // namespace expertscope
