// What tells the architectures apart, on models small enough to compute by the definitions.
#include <cmath>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/error.h"
#include "engine/model/arithmetic.h"
#include "engine/model/kernels.h"
#include "engine/model/model.h"
#include "engine/model/reference_ops.h"
#include "tests/engine/model/gguf_writer.h"

namespace expertscope {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr int kWidth = 32, kHeads = 2, kKvHeads = 1, kHeadDim = 48;  // heads wider than the model's width divided

// A tensor of float32 (type 0) around `middle`.
GgufWriter::Tensor f32_tensor(const std::string& name, std::vector<std::int64_t> shape, float middle = 0) {
  std::mt19937 random(static_cast<unsigned>(name.size()));
  std::string data;
  std::int64_t values = 1;
  for (const std::int64_t extent : shape) values *= extent;
  for (std::int64_t i = 0; i < values; ++i)
    data += GgufWriter::raw(middle + static_cast<float>(static_cast<int>(random() % 2001) - 1000) * 5e-4f);
  return {name, std::move(shape), 0, data, {}};
}

// The tiny model as another architecture, its heads kHeadDim wide.
GgufWriter tiny_of(const std::string& architecture) {
  GgufWriter writer =
      tiny_model({.width = kWidth, .heads = kHeads, .kv_heads = kKvHeads, .dense_type = TensorType::f32});
  for (auto& [key, value] : writer.entries)
    if (key.starts_with("llama.")) key.replace(0, 5, architecture);
  if (architecture == "qwen3moe")  // as its files have it; see the test of files without
    for (auto& [key, value] : writer.entries)
      if (key == "qwen3moe.feed_forward_length") key = "qwen3moe.expert_feed_forward_length";
  writer.set_string("general.architecture", architecture);
  writer.set_u32(architecture + ".attention.key_length", kHeadDim);
  writer.set_u32(architecture + ".attention.value_length", kHeadDim);
  const bool whole = architecture == "olmoe", norms = architecture != "llama";
  for (const std::string layer : {"blk.0.", "blk.1."}) {
    writer.tensor(layer + "attn_q.weight") = f32_tensor(layer + "attn_q.weight", {kWidth, kHeads * kHeadDim});
    writer.tensor(layer + "attn_k.weight") = f32_tensor(layer + "attn_k.weight", {kWidth, kKvHeads * kHeadDim});
    writer.tensor(layer + "attn_v.weight") = f32_tensor(layer + "attn_v.weight", {kWidth, kKvHeads * kHeadDim});
    writer.tensor(layer + "attn_output.weight") = f32_tensor(layer + "attn_output.weight", {kHeads * kHeadDim, kWidth});
    if (!norms) continue;
    writer.tensors.push_back(f32_tensor(layer + "attn_q_norm.weight", {whole ? kHeads * kHeadDim : kHeadDim}, 1));
    writer.tensors.push_back(f32_tensor(layer + "attn_k_norm.weight", {whole ? kKvHeads * kHeadDim : kHeadDim}, 1));
  }
  return writer;
}

std::string refusal(const GgufWriter& writer) {
  const TemporaryFile file(writer.file());
  try {
    const Model model(file.path());
    return {};
  } catch (const InputError& error) {
    return error.what();
  }
}

std::vector<float> floats(const std::vector<double>& values) {
  return {values.begin(), values.end()};
}

std::vector<double> weights_of(const WeightMatrix& matrix) {
  std::vector<double> out;
  std::vector<float> row(static_cast<std::size_t>(matrix.view().cols));
  for (int r = 0; r < matrix.view().rows; ++r) {
    dequantise_row(matrix.view(), r, row.data());
    out.insert(out.end(), row.begin(), row.end());
  }
  return out;
}

// Queries or keys of one token by the definitions: product, norm, rotation.
std::vector<float> rotated(const ModelDescription& d, const WeightMatrix& matrix, const std::vector<float>& norm,
                           const std::vector<float>& x, int position) {
  const std::vector<float> raw = floats(reference::multiply(weights_of(matrix), x));
  const auto head_dim = static_cast<std::size_t>(d.head_dim);
  std::vector<float> out, whole = raw;
  if (d.qk_norm == QkNorm::whole) whole = floats(reference::rms_norm(raw, norm, d.norm_eps));
  for (std::size_t at = 0; at < raw.size(); at += head_dim) {
    std::vector<float> head(whole.begin() + static_cast<std::ptrdiff_t>(at),
                            whole.begin() + static_cast<std::ptrdiff_t>(at + head_dim));
    if (d.qk_norm == QkNorm::per_head) head = floats(reference::rms_norm(head, norm, d.norm_eps));
    const std::vector<double> turned = reference::rope(d.rope, position, head);
    out.insert(out.end(), turned.begin(), turned.end());
  }
  return out;
}

class EveryArchitecture : public testing::TestWithParam<std::string> {};

TEST_P(EveryArchitecture, AttendsAsTheDefinitionsSay) {
  const TemporaryFile file(tiny_of(GetParam()).file());
  const Model model(file.path());
  const ModelDescription& d = model.description();
  const LayerWeights& w = model.layer(0);
  ASSERT_EQ(d.head_dim, kHeadDim);
  const std::vector<std::int32_t> ids = {7, 200, 31};
  ThreadPool pool(1);
  Arithmetic arithmetic(model, pool, 3, 1);
  std::vector<TokenInput> tokens;
  for (std::size_t t = 0; t < ids.size(); ++t) tokens.push_back({ids[t], 0, static_cast<int>(t), false});
  arithmetic.begin_step(tokens);
  arithmetic.attention(0);

  std::vector<float> keys, values, x(kWidth), query;
  for (std::size_t t = 0; t < ids.size(); ++t) {
    dequantise_row(model.embedding().view(), ids[t], x.data());
    const std::vector<float> normed = floats(reference::rms_norm(x, w.attention_norm, d.norm_eps));
    query = rotated(d, w.q, w.q_norm, normed, static_cast<int>(t));
    const std::vector<float> key = rotated(d, w.k, w.k_norm, normed, static_cast<int>(t));
    const std::vector<double> value = reference::multiply(weights_of(w.v), normed);
    keys.insert(keys.end(), key.begin(), key.end());
    values.insert(values.end(), value.begin(), value.end());
  }
  std::vector<float> attended;  // by the last token's heads, which share the one key and value head
  for (std::size_t head = 0; head < kHeads; ++head) {
    const auto out = reference::attend(std::span(query).subspan(head * kHeadDim, kHeadDim), keys, values);
    attended.insert(attended.end(), out.begin(), out.end());
  }
  const std::vector<double> delta = reference::multiply(weights_of(w.output), attended);
  for (std::size_t i = 0; i < kWidth; ++i) EXPECT_NEAR(arithmetic.hidden(2)[i], x[i] + delta[i], 2e-5) << i;
}

TEST_P(EveryArchitecture, RefusesNormsThatAreMissingTooManyOrOfAnotherShape) {
  const GgufWriter whole = tiny_of(GetParam());
  EXPECT_EQ(refusal(whole), "");
  if (GetParam() == "llama") {
    GgufWriter writer = whole;
    writer.tensors.push_back(f32_tensor("blk.1.attn_q_norm.weight", {kHeadDim}, 1));
    EXPECT_THAT(refusal(writer), AllOf(HasSubstr("blk.1.attn_q_norm"), HasSubstr("not part of the architecture")));
    return;
  }
  for (const std::string name : {"blk.1.attn_q_norm.weight", "blk.0.attn_k_norm.weight"}) {
    GgufWriter writer = whole;
    std::erase_if(writer.tensors, [&](const auto& tensor) { return tensor.name == name; });
    EXPECT_THAT(refusal(writer), AllOf(HasSubstr(name), HasSubstr("is missing")));
    writer.tensors.push_back(f32_tensor(name, {kWidth}, 1));
    EXPECT_THAT(refusal(writer), AllOf(HasSubstr(name), HasSubstr("has shape")));
    writer = whole;
    writer.tensor(name).data.replace(4, 4, GgufWriter::raw(std::numeric_limits<float>::infinity()));
    EXPECT_THAT(refusal(writer), AllOf(HasSubstr(name), HasSubstr("not finite")));
  }
}

TEST_P(EveryArchitecture, WeighsItsPicksByItsOwnRule) {
  const TemporaryFile file(tiny_of(GetParam()).file());
  EXPECT_EQ(Model(file.path()).description().router.renormalise, GetParam() != "olmoe");
}

INSTANTIATE_TEST_SUITE_P(All, EveryArchitecture, testing::Values("llama", "qwen3moe", "olmoe"),
                         [](const auto& parameter) { return parameter.param; });

TEST(Architecture, TakesTheWidthOfExpertsFromItsOwnKeyWhereThereIsOne) {
  GgufWriter writer = tiny_of("qwen3moe");
  writer.set_u32("qwen3moe.expert_feed_forward_length", 32);
  writer.set_u32("qwen3moe.feed_forward_length", 96);
  EXPECT_EQ(refusal(writer), "");
}

TEST(Architecture, TakesTheWidthOfExpertsFromThatOfAllPicksWhereQwenHasNoOther) {
  GgufWriter writer = tiny_of("qwen3moe");
  const TemporaryFile plain(writer.file());
  const ModelDescription d = Model(plain.path()).description();
  ASSERT_GT(d.router.top_k, 1);
  std::erase_if(writer.entries, [](const auto& entry) { return entry.first == "qwen3moe.expert_feed_forward_length"; });
  writer.set_u32("qwen3moe.feed_forward_length", static_cast<std::uint32_t>(d.expert_ff * d.router.top_k));
  EXPECT_EQ(refusal(writer), "");
  const TemporaryFile file(writer.file());
  EXPECT_EQ(Model(file.path()).description().expert_ff, d.expert_ff);
  writer.set_u32("qwen3moe.feed_forward_length", static_cast<std::uint32_t>(d.expert_ff * d.router.top_k + 1));
  EXPECT_THAT(refusal(writer), HasSubstr("qwen3moe.feed_forward_length"));
}

TEST(Architecture, NamesThoseThatItKnowsWhereItRefusesAnother) {
  GgufWriter writer = tiny_of("llama");
  writer.set_string("general.architecture", "deepseek2");
  EXPECT_THAT(refusal(writer), AllOf(HasSubstr("'deepseek2'"), HasSubstr("llama, qwen3moe, olmoe")));
}

}  // namespace
}  // namespace expertscope
