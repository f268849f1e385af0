// A cost shape lets a small model stand in for a big one on an emulated machine: every operation is charged the bytes
// and operations of the big model's expert, attention or head, with the loaded model's own layers, experts and top-k.
// It serves to compare policies, never to claim the big model's tokens/s.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace expertscope {

class Model;

struct CostShape {
  std::string name;                 // "own", "mixtral-8x7b-bf16", …
  double width = 0;                 // d_model
  double expert_parameters = 0;     // 3 * width * expert_ff
  std::int64_t expert_bytes = 0;    // at native precision, largest layer
  double attention_parameters = 0;  // one layer: q, k, v, output; shared experts too
  std::int64_t attention_bytes = 0;
  std::int64_t kv_bytes_per_token = 0;      // one layer
  double attention_flops_per_position = 0;  // one token against one earlier position, one layer
  std::int64_t head_bytes = 0;              // output matrix
  double head_parameters = 0;
  std::int64_t embedding_bytes = 0;  // 0 when tied to the head
};

CostShape own_shape(const Model&);
// InputError lists the names. "own" needs the model.
CostShape load_cost_shape(const std::string& name, const Model&);
CostShape parse_cost_shape(const std::string& json_text);  // as stored in a session
std::string to_json(const CostShape&);
std::vector<std::string> cost_shape_names();  // without "own"

}  // namespace expertscope
