// A model in memory: its description, its dense weights, and the host store of its experts. Everything is read from the
// file once, at construction, so that nothing that happens to the file later can disturb a run; only experts that were
// asked to stay in the file are read when a machine wants them.
// Immutable after construction; all functions may be called from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "engine/ids.h"
#include "engine/model/gguf_reader.h"
#include "engine/model/model_description.h"
#include "engine/model/tokenizer.h"
#include "engine/model/weight_matrix.h"

namespace expertscope {

class WeightLoader;

// Weights outside the routed experts of one layer.
struct LayerWeights {
  std::vector<float> attention_norm, expert_norm;  // [width]
  WeightMatrix q, k, v, output;                    // [q_width | kv_width | kv_width | width][…]
  WeightMatrix router;                             // [experts][width]
  std::vector<float> q_norm, k_norm;               // [head_dim] or [q_width | kv_width] as qk_norm says; else empty
};

// One of an expert's matrices in its blob, wherever the blob lies.
WeightView matrix_in_blob(const ExpertMatrix&, const std::byte* blob);

// Where experts are kept.
enum class ExpertHome : std::uint8_t { memory, file };

class Model {
 public:
  explicit Model(const std::filesystem::path& path, ExpertHome = ExpertHome::memory);  // throws InputError

  const ModelDescription& description() const { return description_; }
  const std::filesystem::path& path() const { return reader_->path(); }
  const GgufReader& file() const { return *reader_; }

  // The tokenizer in the file's metadata. A file without one that we can use still runs on token ids: tokenizer()
  // throws an InputError that says why, has_tokenizer() is false.
  bool has_tokenizer() const { return tokenizer_ != nullptr; }
  const Tokenizer& tokenizer() const;

  ExpertHome expert_home() const { return expert_home_; }
  // Reads experts from the file into blobs laid out as blob_layout says, on so many threads, the caller's among them.
  // They leave the system's cache of files: whoever reads again and again has one of their own.
  struct ExpertRead {
    ExpertId expert;
    std::byte* blob = nullptr;
  };
  void read_experts(std::span<const ExpertRead>, int threads) const;

  // One expert at native precision, gate, up and down, laid out as blob_layout says, where experts are in memory. Valid
  // as long as the model.
  std::span<const std::byte> expert_blob(ExpertId) const;
  const ExpertBlobLayout& blob_layout(int layer) const {
    return description_.expert_blob[static_cast<std::size_t>(layer)];
  }

  // All blobs, with the gaps that align them: one piece of memory, which a machine may page-lock. Empty where experts
  // stay in the file.
  std::span<const std::byte> expert_store() const { return experts_.span(); }

  std::int64_t expert_bytes() const { return expert_bytes_; }  // all routed experts
  std::int64_t dense_bytes() const { return dense_bytes_; }    // everything else
  std::int64_t total_bytes() const { return expert_bytes_ + dense_bytes_; }

  // SHA-256 of the file in hexadecimal, computed on the first call (about 1.5 GB/s) and kept. Throws RunError
  // when the file changed since it was loaded.
  const std::string& file_sha256() const;

  const WeightMatrix& embedding() const { return embedding_; }                                  // [vocab][width]
  const WeightMatrix& head() const { return description_.tied_output ? embedding_ : output_; }  // [vocab][width]
  const std::vector<float>& output_norm() const { return output_norm_; }                        // [width]
  const LayerWeights& layer(int layer) const { return layers_[static_cast<std::size_t>(layer)]; }

 private:
  void load_weights();
  void add_experts(int layer, WeightLoader& loader);
  std::int64_t blob_offset(ExpertId id) const;

  std::unique_ptr<GgufReader> reader_;
  ExpertHome expert_home_;
  ModelDescription description_;
  std::unique_ptr<const Tokenizer> tokenizer_;  // null when there is none
  WeightMatrix embedding_, output_;
  std::vector<float> output_norm_;
  std::vector<LayerWeights> layers_;
  AlignedBytes experts_;                  // all blobs, layer by layer, each on a 64-byte boundary
  std::vector<std::int64_t> first_blob_;  // [layer]: where the layer's blobs begin
  std::int64_t expert_bytes_ = 0, dense_bytes_ = 0;
  mutable std::once_flag sha256_once_;
  mutable std::string sha256_;
};

}  // namespace expertscope
