#include "engine/synth/synth_shape.h"

#include "engine/error.h"

namespace expertscope {
namespace {

constexpr SynthShape kShapes[] = {
    {.name = "tiny",
     .architecture = "llama",
     .layers = 4,
     .width = 256,
     .heads = 4,
     .kv_heads = 2,
     .head_dim = 64,
     .experts = 16,
     .top_k = 2,
     .expert_ff = 256,
     .dense_ff = 256,
     .vocab = 1024,
     .context = 1024,
     .rope_base = 1e4,
     .norm_eps = 1e-5,
     .clusters = 8},
    {.name = "mixtral-8x7b",
     .architecture = "llama",
     .layers = 32,
     .width = 4096,
     .heads = 32,
     .kv_heads = 8,
     .head_dim = 128,
     .experts = 8,
     .top_k = 2,
     .expert_ff = 14336,
     .dense_ff = 14336,
     .vocab = 32000,
     .context = 32768,
     .rope_base = 1e6,
     .norm_eps = 1e-5,
     .clusters = 32},
    {.name = "qwen3-30b-a3b",
     .architecture = "qwen3moe",
     .layers = 48,
     .width = 2048,
     .heads = 32,
     .kv_heads = 4,
     .head_dim = 128,
     .experts = 128,
     .top_k = 8,
     .expert_ff = 768,
     .dense_ff = 6144,
     .vocab = 151936,
     .context = 40960,
     .rope_base = 1e6,
     .norm_eps = 1e-6,
     .qk_norm = QkNorm::per_head,
     .clusters = 32},
    {.name = "olmoe-1b-7b",
     .architecture = "olmoe",
     .layers = 16,
     .width = 2048,
     .heads = 16,
     .kv_heads = 16,
     .head_dim = 128,
     .experts = 64,
     .top_k = 8,
     .expert_ff = 1024,
     .dense_ff = 1024,
     .vocab = 50304,
     .context = 4096,
     .rope_base = 1e4,
     .norm_eps = 1e-5,
     .qk_norm = QkNorm::whole,
     .clusters = 32},
};

}  // namespace

std::span<const SynthShape> synth_shapes() {
  return kShapes;
}

const SynthShape& find_synth_shape(std::string_view name) {
  std::string known;
  for (const SynthShape& shape : kShapes) {
    if (shape.name == name) return shape;
    known += (known.empty() ? "" : ", ") + std::string(shape.name);
  }
  throw InputError("--shape: '" + std::string(name) + "' is not known: choose one of " + known);
}

}  // namespace expertscope
