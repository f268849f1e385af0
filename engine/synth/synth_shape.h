// Shapes of the models that `synth` writes: the published ones, and a tiny one for tests.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "engine/model/model_description.h"

namespace expertscope {

struct SynthShape {
  std::string_view name;
  std::string_view architecture;  // as in general.architecture
  int layers = 0, width = 0, heads = 0, kv_heads = 0, head_dim = 0;
  int experts = 0, top_k = 0, expert_ff = 0;
  int dense_ff = 0;  // what {arch}.feed_forward_length says
  int vocab = 0, context = 0;
  double rope_base = 0, norm_eps = 0;
  QkNorm qk_norm = QkNorm::none;
  int clusters = 0;  // of the vocabulary, see planted_routing.h; a power of two that divides the width

  std::int64_t q_width() const { return std::int64_t{heads} * head_dim; }
  std::int64_t kv_width() const { return std::int64_t{kv_heads} * head_dim; }
};

std::span<const SynthShape> synth_shapes();
const SynthShape& find_synth_shape(std::string_view name);  // InputError lists what there is

}  // namespace expertscope
