#include "engine/model/model.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <thread>

#include "engine/assert.h"
#include "engine/error.h"
#include "engine/model/kernels.h"
#include "engine/model/tensor_names.h"
#include "engine/model/text_escape.h"
#include "engine/model/weight_loader.h"

namespace expertscope {

namespace {

std::size_t size(std::int64_t n) {
  return static_cast<std::size_t>(n);
}

std::int64_t round_up(std::int64_t bytes) {
  return (bytes + AlignedBytes::kAlignment - 1) / AlignedBytes::kAlignment * AlignedBytes::kAlignment;
}

const GgufTensor& tensor_of(const GgufReader& file, const std::string& name) {
  const GgufTensor* tensor = file.find_tensor(name);
  ES_ASSERT(tensor, "the description has checked that the tensor is there");
  return *tensor;
}

// A small matrix that is looked at before all others are read.
WeightMatrix load_matrix(const GgufReader& file, const std::string& name) {
  WeightLoader loader(file);
  WeightMatrix matrix = loader.add_matrix(tensor_of(file, name));
  loader.run(1);
  return matrix;
}

// Values of a tensor of which every one matters: a norm or a router with a NaN in it makes every token one.
void check_finite(const GgufReader& file, const std::string& name, std::span<const float> values) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) {
      file.fail_tensor(name, "has a value that is not finite at index " + std::to_string(i) +
                                 "; the weights are damaged, check the file against its source");
    }
  }
}

std::vector<float> load_vector(const GgufReader& file, const std::string& name) {
  const WeightMatrix matrix = load_matrix(file, name);
  std::vector<float> values(size(matrix.view().cols));
  dequantise_row(matrix.view(), 0, values.data());
  check_finite(file, name, values);
  return values;
}

WeightMatrix load_router(const GgufReader& file, const std::string& name) {
  WeightMatrix matrix = load_matrix(file, name);
  std::vector<float> values(size(matrix.view().cols));
  for (int row = 0; row < matrix.view().rows; ++row) {
    dequantise_row(matrix.view(), row, values.data());
    check_finite(file, name, values);
  }
  return matrix;
}

// Norms and the router are there at once, the other matrices when the loader has run.
LayerWeights load_layer(const GgufReader& file, const ModelDescription& description, int layer, WeightLoader& loader) {
  const auto name = [layer](const char* part) { return layer_tensor_name(layer, part); };
  const auto matrix = [&](const char* part) { return loader.add_matrix(tensor_of(file, name(part))); };
  LayerWeights weights;
  weights.attention_norm = load_vector(file, name("attn_norm"));
  weights.expert_norm = load_vector(file, name("ffn_norm"));
  weights.q = matrix("attn_q");
  weights.k = matrix("attn_k");
  weights.v = matrix("attn_v");
  weights.output = matrix("attn_output");
  weights.router = load_router(file, name("ffn_gate_inp"));
  if (description.qk_norm != QkNorm::none) {
    weights.q_norm = load_vector(file, name("attn_q_norm"));
    weights.k_norm = load_vector(file, name("attn_k_norm"));
  }
  return weights;
}

// One of an expert's three matrices goes from the file into its place in the blob.
void add_expert_matrix(const GgufReader& file, ExpertId id, std::string_view part, const ExpertMatrix& matrix,
                       std::byte* blob, WeightLoader& loader) {
  const std::int64_t values = std::int64_t{matrix.rows} * matrix.cols;
  const auto add = [&](const GgufTensor& tensor, std::int64_t first) {
    loader.add(tensor, first, values, blob + matrix.quants_offset, blob + matrix.scales_offset);
  };
  if (const GgufTensor* both = file.find_tensor(gate_up_experts_name(id.layer)); both && part != "down")
    return add(*both, (2 * id.expert + (part == "up" ? 1 : 0)) * values);
  if (const GgufTensor* merged = file.find_tensor(merged_experts_name(id.layer, part)))
    return add(*merged, id.expert * values);
  add(tensor_of(file, single_expert_name(id.layer, part, id.expert)), 0);
}

int loading_threads() {
  constexpr unsigned kMost = 32;  // more do not read a file faster
  return static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1u, kMost));
}

}  // namespace

WeightView matrix_in_blob(const ExpertMatrix& matrix, const std::byte* blob) {
  return {matrix.type, matrix.rows, matrix.cols, blob + matrix.quants_offset,
          has_scales_plane(matrix.type) ? blob + matrix.scales_offset : nullptr};
}

Model::Model(const std::filesystem::path& path, ExpertHome home)
    : reader_(std::make_unique<GgufReader>(path)), expert_home_(home) {
  description_ = describe_model(*reader_);
  tokenizer_ = load_tokenizer(*reader_, description_.vocab);
  try {
    load_weights();
  } catch (const std::bad_alloc&) {
    throw InputError(escaped(path.string()) + ": the model's " + std::to_string(reader_->data_bytes()) +
                     " bytes do not fit into this machine's memory; choose a smaller model or file type");
  }
}

void Model::load_weights() {
  const GgufReader& file = *reader_;
  WeightLoader loader(file);
  embedding_ = loader.add_matrix(tensor_of(file, "token_embd.weight"));
  output_norm_ = load_vector(file, "output_norm.weight");
  if (!description_.tied_output) output_ = loader.add_matrix(tensor_of(file, "output.weight"));
  std::int64_t bytes = 0;
  for (const ExpertBlobLayout& layout : description_.expert_blob) {
    first_blob_.push_back(bytes);
    bytes += description_.router.experts * round_up(layout.bytes);
    expert_bytes_ += description_.router.experts * layout.bytes;
  }
  dense_bytes_ = file.data_bytes() - expert_bytes_;
  const bool in_memory = expert_home_ == ExpertHome::memory;
  if (in_memory) experts_ = AlignedBytes(bytes);
  for (int layer = 0; layer < description_.layers; ++layer) {
    layers_.push_back(load_layer(file, description_, layer, loader));
    if (in_memory) add_experts(layer, loader);
  }
  loader.run(loading_threads());
}

void Model::read_experts(std::span<const ExpertRead> reads, int threads) const {
  WeightLoader loader(*reader_, false);
  for (const ExpertRead& read : reads) {
    const ExpertBlobLayout& layout = blob_layout(read.expert.layer);
    for (const auto& [part, matrix] : {std::pair{"gate", &layout.gate}, {"up", &layout.up}, {"down", &layout.down}})
      add_expert_matrix(*reader_, read.expert, part, *matrix, read.blob, loader);
  }
  loader.run(threads);
}

// By part and not by expert, so that the file is read from its beginning to its end.
void Model::add_experts(int layer, WeightLoader& loader) {
  const ExpertBlobLayout& layout = blob_layout(layer);
  for (const auto& [part, matrix] : {std::pair{"gate", &layout.gate}, {"up", &layout.up}, {"down", &layout.down}}) {
    for (int expert = 0; expert < description_.router.experts; ++expert) {
      const ExpertId id{static_cast<std::uint16_t>(layer), static_cast<std::uint16_t>(expert)};
      add_expert_matrix(*reader_, id, part, *matrix, experts_.data() + blob_offset(id), loader);
    }
  }
}

std::int64_t Model::blob_offset(ExpertId id) const {
  return first_blob_[id.layer] + id.expert * round_up(blob_layout(id.layer).bytes);
}

const Tokenizer& Model::tokenizer() const {
  if (tokenizer_) return *tokenizer_;
  const std::string kind = tokenizer_kind(*reader_);
  const bool none = kind == "none" || kind == "no_vocab";
  reader_->fail((none ? "has no tokenizer" : "has tokenizer '" + escaped(kind) + "', which is not supported") +
                std::string("; give token ids instead of text"));
}

std::span<const std::byte> Model::expert_blob(ExpertId id) const {
  ES_ASSERT(expert_home_ == ExpertHome::memory, "asks for an expert that stays in the file");
  ES_ASSERT(id.layer < first_blob_.size() && id.expert < description_.router.experts, "an expert of the model");
  return experts_.span().subspan(size(blob_offset(id)), size(blob_layout(id.layer).bytes));
}

const std::string& Model::file_sha256() const {
  std::call_once(sha256_once_, [this] { sha256_ = reader_->sha256(); });
  return sha256_;
}

}  // namespace expertscope
