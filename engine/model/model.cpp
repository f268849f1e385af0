#include "engine/model/model.h"

#include <cmath>
#include <new>

#include "engine/assert.h"
#include "engine/error.h"
#include "engine/model/kernels.h"
#include "engine/model/tensor_names.h"
#include "engine/model/text_escape.h"

namespace expertscope {

namespace {

std::size_t size(std::int64_t n) {
  return static_cast<std::size_t>(n);
}

std::int64_t round_up(std::int64_t bytes) {
  return (bytes + AlignedBytes::kAlignment - 1) / AlignedBytes::kAlignment * AlignedBytes::kAlignment;
}

WeightMatrix load_matrix(const GgufReader& file, const std::string& name) {
  const GgufTensor* tensor = file.find_tensor(name);
  ES_ASSERT(tensor, "the description has checked that the tensor is there");
  std::vector<std::byte> bytes(size(tensor->bytes));
  file.read(*tensor, 0, bytes);
  const int cols = static_cast<int>(tensor->shape[0]);
  return WeightMatrix(tensor->type, static_cast<int>(tensor->values / cols), cols, bytes);
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

LayerWeights load_layer(const GgufReader& file, const ModelDescription& description, int layer) {
  const auto name = [layer](const char* part) { return layer_tensor_name(layer, part); };
  LayerWeights weights;
  weights.attention_norm = load_vector(file, name("attn_norm"));
  weights.expert_norm = load_vector(file, name("ffn_norm"));
  weights.q = load_matrix(file, name("attn_q"));
  weights.k = load_matrix(file, name("attn_k"));
  weights.v = load_matrix(file, name("attn_v"));
  weights.output = load_matrix(file, name("attn_output"));
  weights.router = load_router(file, name("ffn_gate_inp"));
  if (description.qk_norm != QkNorm::none) {
    weights.q_norm = load_vector(file, name("attn_q_norm"));
    weights.k_norm = load_vector(file, name("attn_k_norm"));
  }
  return weights;
}

// Reads one of an expert's three matrices and puts its planes into the blob.
void load_expert_matrix(const GgufReader& file, ExpertId id, std::string_view part, const ExpertMatrix& matrix,
                        std::vector<std::byte>& scratch, std::byte* blob) {
  const std::int64_t values = std::int64_t{matrix.rows} * matrix.cols;
  const std::int64_t bytes = tensor_bytes(matrix.type, values);
  std::string name = merged_experts_name(id.layer, part);
  std::int64_t slice = id.expert;
  if (!file.find_tensor(name)) {
    name = single_expert_name(id.layer, part, id.expert);
    slice = 0;
  }
  const GgufTensor* tensor = file.find_tensor(name);
  ES_ASSERT(tensor, "the description has checked that the tensor is there");
  scratch.resize(size(bytes));
  file.read(*tensor, slice * bytes, scratch);
  split_into_planes(matrix.type, values, scratch.data(), blob + matrix.quants_offset, blob + matrix.scales_offset);
}

}  // namespace

Model::Model(const std::filesystem::path& path) : reader_(std::make_unique<GgufReader>(path)) {
  description_ = describe_model(*reader_);
  load_tokenizer();
  try {
    load_weights();
  } catch (const std::bad_alloc&) {
    throw InputError(escaped(path.string()) + ": the model's " + std::to_string(reader_->data_bytes()) +
                     " bytes do not fit into this machine's memory; choose a smaller model or file type");
  }
}

void Model::load_tokenizer() {
  const std::string kind = reader_->find_string("tokenizer.ggml.model").value_or("none");
  if (kind == "llama") {
    tokenizer_.emplace(*reader_, description_.vocab);
  } else if (kind == "none" || kind == "no_vocab") {
    no_tokenizer_ = "has no tokenizer; give token ids instead of text";
  } else {
    no_tokenizer_ = "has tokenizer '" + escaped(kind) + "', which is not supported yet; give token ids instead of text";
  }
}

void Model::load_weights() {
  const GgufReader& file = *reader_;
  embedding_ = load_matrix(file, "token_embd.weight");
  output_norm_ = load_vector(file, "output_norm.weight");
  if (!description_.tied_output) output_ = load_matrix(file, "output.weight");
  std::int64_t bytes = 0;
  for (const ExpertBlobLayout& layout : description_.expert_blob) {
    first_blob_.push_back(bytes);
    bytes += description_.router.experts * round_up(layout.bytes);
  }
  experts_ = AlignedBytes(bytes);
  for (int layer = 0; layer < description_.layers; ++layer) {
    layers_.push_back(load_layer(file, description_, layer));
    load_experts(layer);
  }
  dense_bytes_ = file.data_bytes() - expert_bytes_;
}

void Model::load_experts(int layer) {
  const ExpertBlobLayout& layout = blob_layout(layer);
  std::vector<std::byte> scratch;
  for (int expert = 0; expert < description_.router.experts; ++expert) {
    const ExpertId id{static_cast<std::uint16_t>(layer), static_cast<std::uint16_t>(expert)};
    std::byte* blob = experts_.data() + blob_offset(id);
    load_expert_matrix(*reader_, id, "gate", layout.gate, scratch, blob);
    load_expert_matrix(*reader_, id, "up", layout.up, scratch, blob);
    load_expert_matrix(*reader_, id, "down", layout.down, scratch, blob);
    expert_bytes_ += layout.bytes;
  }
}

std::int64_t Model::blob_offset(ExpertId id) const {
  return first_blob_[id.layer] + id.expert * round_up(blob_layout(id.layer).bytes);
}

const Tokenizer& Model::tokenizer() const {
  if (!tokenizer_) reader_->fail(no_tokenizer_);
  return *tokenizer_;
}

std::span<const std::byte> Model::expert_blob(ExpertId id) const {
  ES_ASSERT(id.layer < first_blob_.size() && id.expert < description_.router.experts, "an expert of the model");
  return experts_.span().subspan(size(blob_offset(id)), size(blob_layout(id.layer).bytes));
}

const std::string& Model::file_sha256() const {
  std::call_once(sha256_once_, [this] { sha256_ = reader_->sha256(); });
  return sha256_;
}

}  // namespace expertscope
