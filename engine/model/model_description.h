// What the forward pass needs to know about a model. One loader function per architecture fills it; nothing after the
// loader knows the architecture's name.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/model/tensor_type.h"

namespace expertscope {

class GgufReader;

inline constexpr int kMaxLayers = 1024;
inline constexpr int kMaxExperts = 1024;  // routed experts of one layer
inline constexpr int kMaxTopK = 16;       // experts chosen for one token in one layer

enum class RouterGate : std::uint8_t {
  softmax,  // probabilities over all experts
  sigmoid,  // each expert on its own
  none,     // the logits themselves; softmax follows over the selected ones
};

// From router logits to picks, in this order: gate, top-k, softmax over the selected, renormalise, scale.
struct RouterRule {
  RouterGate gate = RouterGate::softmax;
  bool softmax_on_selected = false;
  bool renormalise = true;
  float scale = 1;
  int experts = 0;
  int top_k = 0;
};

enum class RopeStyle : std::uint8_t {
  interleaved,  // rotates values 2i and 2i + 1 ("NORM")
  halves,       // rotates values i and i + dims / 2 ("NEOX")
};

struct RopeRule {
  RopeStyle style = RopeStyle::interleaved;
  double base = 10000;
  int dims = 0;  // leading values of each head that are rotated; even
};

// RMS norm of queries and keys, before they are rotated.
enum class QkNorm : std::uint8_t {
  none,
  per_head,  // each head on its own, all with the same head_dim weights
  whole,     // the whole vector of a token, before it is cut into heads: q_width and kv_width weights
};

// Where the three matrices of one expert lie in its blob (offsets in bytes from the blob's start, multiples of 64): the
// plane of quants of all rows and elsewhere, when has_scales_plane(type), the float16 scales of all rows.
struct ExpertMatrix {
  TensorType type = TensorType::f32;
  int rows = 0, cols = 0;  // y[rows] = W x[cols]
  std::int64_t quants_offset = 0, scales_offset = 0;
  bool operator==(const ExpertMatrix&) const = default;
};
struct ExpertBlobLayout {
  ExpertMatrix gate, up, down;
  std::int64_t bytes = 0;  // of one expert; equal to what the file's three slices take
  bool operator==(const ExpertBlobLayout&) const = default;
};

struct ModelDescription {
  std::string architecture;  // as the file says, for people
  std::string name;          // general.name, else the file's name; any text, escape before display

  int layers = 0;  // all of them mixture-of-experts layers
  int width = 0;   // d_model
  int vocab = 0;
  int context = 0;  // tokens
  float norm_eps = 0;
  bool tied_output = false;

  int heads = 0, kv_heads = 0;
  int head_dim = 0;  // of queries, keys and values
  QkNorm qk_norm = QkNorm::none;
  RopeRule rope;

  RouterRule router;
  int expert_ff = 0;                          // hidden width of one expert
  std::vector<ExpertBlobLayout> expert_blob;  // [layers]

  int q_width() const { return heads * head_dim; }
  int kv_width() const { return kv_heads * head_dim; }
};

// Fills the description from the metadata and checks it against the tensors. Throws InputError.
ModelDescription describe_model(const GgufReader&);

}  // namespace expertscope
