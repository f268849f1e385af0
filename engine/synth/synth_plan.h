// What is in the file that `synth` writes: its metadata, its tensors, and the bytes of any part of a tensor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "engine/synth/gguf_layout.h"
#include "engine/synth/planted_routing.h"

namespace expertscope {

// Raised when the bytes that the same request gives would change; written into every file, under this key.
inline constexpr std::uint32_t kSynthVersion = 1;
inline constexpr const char* kSynthVersionKey = "general.synth.version";

struct SynthRequest {
  SynthShape shape;
  TensorType type = TensorType::q8_0;  // of all matrices but routers (F32) and the embedding (F16)
  SynthRouting routing = SynthRouting::bursty;
  std::uint64_t seed = 0;
  std::int64_t stream_tokens = kMinStreamTokens;

  static constexpr std::int64_t kMinStreamTokens = 4096;
};

// Of the values "q8_0", "q4_k", …; InputError lists what there is.
TensorType find_synth_type(std::string_view);

// Immutable; any thread.
class SynthPlan {
 public:
  // `planted` is for the same request, and outlives the plan.
  SynthPlan(const SynthRequest&, const PlantedRouting& planted);

  const GgufLayout& layout() const { return layout_; }
  // How many values of a tensor are best filled at once: some megabytes.
  std::int64_t part_values(std::size_t tensor) const;
  // The bytes of a tensor from value `first`, a multiple of part_values, on.
  void fill(std::size_t tensor, std::int64_t first, std::span<std::byte> out) const;

 private:
  enum class Kind : std::uint8_t { ones, embedding, router, random };
  struct Content {
    Kind kind = Kind::ones;
    int layer = 0;
    double deviation = 0;
  };

  void add_metadata();
  void add_tensors();
  void add_layer(int layer);
  void add_tensor(std::string name, std::vector<std::int64_t> shape, TensorType type, Content content);
  void fill_embedding(std::int64_t first, std::span<std::byte> out) const;

  SynthRequest request_;
  const PlantedRouting& planted_;
  GgufLayout layout_;
  std::vector<Content> contents_;  // by tensor
};

}  // namespace expertscope
