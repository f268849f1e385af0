// What a loader accepts, what it refuses, and that experts arrive in the store as the file has them.
#include "engine/model/model.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/error.h"
#include "engine/model/info.h"
#include "engine/model/kernels.h"
#include "engine/model/reference_ops.h"
#include "tests/engine/model/demo_model.h"
#include "tests/engine/model/forward_pass.h"
#include "tests/engine/model/gguf_writer.h"

namespace expertscope {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string refusal(const GgufWriter& writer) {
  const TemporaryFile file(writer.file());
  try {
    const Model model(file.path());
    return {};
  } catch (const InputError& error) {
    return error.what();
  }
}

template <typename Change>
std::string refusal_after(Change change) {
  GgufWriter writer = tiny_model();
  change(writer);
  return refusal(writer);
}

std::string refusal_with_u32(const std::string& key, std::uint32_t value) {
  return refusal_after([&](GgufWriter& w) { w.set_u32(key, value); });
}

std::string refusal_without(const std::string& key) {
  return refusal_after([&](GgufWriter& w) { w.erase(key); });
}

TEST(Model, SaysThatADenseModelHasNoExperts) {
  EXPECT_THAT(refusal_with_u32("llama.expert_count", 0), HasSubstr("not a mixture-of-experts model"));
  EXPECT_THAT(refusal_without("llama.expert_count"), HasSubstr("not a mixture-of-experts model"));
}

TEST(Model, RefusesOtherArchitecturesByName) {
  EXPECT_THAT(refusal_after([](GgufWriter& w) { w.set_string("general.architecture", "mamba\x1b"); }),
              HasSubstr("'mamba\\x1b'"));
}

TEST(Model, RefusesImpossibleRouters) {
  EXPECT_THAT(refusal_with_u32("llama.expert_used_count", 5), HasSubstr("more than the 4 experts"));
  EXPECT_THAT(refusal_with_u32("llama.expert_used_count", 0), HasSubstr("expert_used_count"));
  EXPECT_THAT(refusal_with_u32("llama.expert_count", 8), HasSubstr("has shape"));
  EXPECT_THAT(refusal_with_u32("llama.expert_count", 70'000), HasSubstr("expert_count"));
  EXPECT_THAT(refusal_with_u32("llama.expert_gating_func", 4), HasSubstr("gate"));
  EXPECT_THAT(refusal_with_u32("llama.expert_shared_count", 1), HasSubstr("expert_shared_count"));
  EXPECT_THAT(refusal_with_u32("llama.leading_dense_block_count", 3), HasSubstr("leading_dense_block_count"));
}

TEST(Model, RefusesShapesThatContradictTheTensors) {
  EXPECT_THAT(refusal_with_u32("llama.embedding_length", 64), HasSubstr("has shape"));
  EXPECT_THAT(refusal_with_u32("llama.embedding_length", 33), HasSubstr("multiple of 32"));
  EXPECT_THAT(refusal_with_u32("llama.feed_forward_length", 64), HasSubstr("has shape"));
  EXPECT_THAT(refusal_with_u32("llama.block_count", 3), AllOf(HasSubstr("blk.2."), HasSubstr("is missing")));
  EXPECT_THAT(refusal_with_u32("llama.block_count", 1), HasSubstr("blk.1."));
  EXPECT_THAT(refusal_with_u32("llama.attention.head_count", 3), HasSubstr("head_count"));
  EXPECT_THAT(refusal_with_u32("llama.attention.head_count_kv", 3), HasSubstr("head_count_kv"));
  EXPECT_THAT(refusal_with_u32("llama.vocab_size", 100), HasSubstr("token_embd.weight"));
  EXPECT_THAT(refusal_with_u32("llama.context_length", 0x80000040), HasSubstr("context_length"));
  EXPECT_THAT(refusal_with_u32("llama.rope.dimension_count", 17), HasSubstr("dimension_count"));
}

TEST(Model, RefusesMissingKeysAndTensors) {
  for (const char* key :
       {"general.architecture", "llama.block_count", "llama.context_length", "llama.embedding_length",
        "llama.feed_forward_length", "llama.attention.head_count", "llama.attention.layer_norm_rms_epsilon",
        "llama.expert_used_count", "tokenizer.ggml.tokens", "tokenizer.ggml.scores"}) {
    EXPECT_THAT(refusal_without(key), AllOf(HasSubstr(key), HasSubstr("is missing"))) << key;
  }
  const GgufWriter whole = tiny_model();
  for (std::size_t i = 0; i < whole.tensors.size(); ++i) {
    GgufWriter writer = whole;
    writer.tensors.erase(writer.tensors.begin() + static_cast<std::ptrdiff_t>(i));
    EXPECT_THAT(refusal(writer), HasSubstr("is missing")) << whole.tensors[i].name;
  }
}

TEST(Model, RefusesWhatItWouldOtherwiseSilentlyLeaveOut) {
  EXPECT_THAT(refusal_after([](GgufWriter& w) {
                w.tensors.push_back({"blk.0.attn_q.bias", {32}, 0, std::string(128, '\0'), {}});
              }),
              HasSubstr("blk.0.attn_q.bias"));
  EXPECT_THAT(refusal_after([](GgufWriter& w) { w.set_string("llama.rope.scaling.type", "yarn"); }),
              HasSubstr("rope.scaling"));
  EXPECT_THAT(refusal_with_u32("llama.attention.sliding_window", 8), HasSubstr("sliding_window"));
}

TEST(Model, RefusesRoutersAndNormsThatAreNotFinite) {
  for (const char* name : {"blk.1.ffn_gate_inp.weight", "blk.0.ffn_norm.weight", "output_norm.weight"}) {
    for (const float bad : {NAN, INFINITY}) {
      EXPECT_THAT(refusal_after([&](GgufWriter& w) { w.tensor(name).data.replace(8, 4, GgufWriter::raw(bad)); }),
                  AllOf(HasSubstr(name), HasSubstr("not finite")));
    }
  }
}

TEST(Model, RefusesNumbersOutOfRange) {
  for (const float bad : {0.0f, -1.0f, NAN, INFINITY}) {
    EXPECT_THAT(refusal_after([&](GgufWriter& w) { w.set_f32("llama.attention.layer_norm_rms_epsilon", bad); }),
                HasSubstr("epsilon"));
    EXPECT_THAT(refusal_after([&](GgufWriter& w) { w.set_f32("llama.rope.freq_base", bad); }), HasSubstr("freq_base"));
    EXPECT_THAT(refusal_after([&](GgufWriter& w) { w.set_f32("llama.expert_weights_scale", bad); }),
                HasSubstr("expert_weights_scale"));
  }
}

TEST(Model, AcceptsEveryTypeMixtureAndLayoutOfExperts) {
  for (const TensorType type :
       {TensorType::f32, TensorType::f16, TensorType::bf16, TensorType::q8_0, TensorType::q4_0}) {
    for (const TensorType down : {type, TensorType::q8_0}) {
      for (const bool apart : {false, true}) {
        EXPECT_EQ(refusal(tiny_model({.expert_type = type,
                                      .down_type = down,
                                      .dense_type = type,
                                      .tied = apart,
                                      .one_tensor_per_expert = apart})),
                  "")
            << name(type) << " " << name(down) << " " << apart;
      }
    }
  }
}

TEST(Model, ReadsOneTensorPerExpertAsTheSameModel) {
  const TemporaryFile merged(tiny_model().file()), apart(tiny_model({.one_tensor_per_expert = true}).file());
  const Model a(merged.path()), b(apart.path());
  EXPECT_TRUE(std::ranges::equal(a.expert_blob({1, 3}), b.expert_blob({1, 3})));
}

// The tiny model with gate and up of each layer's experts in one tensor.
GgufWriter with_gate_and_up_together() {
  GgufWriter writer = tiny_model();
  for (int layer = 0; layer < 2; ++layer) {
    const std::string part = "blk." + std::to_string(layer) + ".ffn_";
    GgufWriter::Tensor& gate = writer.tensor(part + "gate_exps.weight");
    const std::string up = writer.tensor(part + "up_exps.weight").data;
    const auto experts = static_cast<std::size_t>(gate.shape[2]);
    const std::size_t slice = up.size() / experts;
    std::string both;
    for (std::size_t e = 0; e < experts; ++e) both += gate.data.substr(e * slice, slice) + up.substr(e * slice, slice);
    gate.name = part + "gate_up_exps.weight";
    gate.shape[1] *= 2;
    gate.data = both;
    std::erase_if(writer.tensors, [&](const auto& tensor) { return tensor.name == part + "up_exps.weight"; });
  }
  return writer;
}

TEST(Model, ReadsGateAndUpInOneTensorAsTheSameModel) {
  const TemporaryFile apart(tiny_model().file()), together(with_gate_and_up_together().file());
  const Model a(apart.path()), b(together.path());
  for (const std::uint16_t expert : {0, 3})
    EXPECT_TRUE(std::ranges::equal(a.expert_blob({1, expert}), b.expert_blob({1, expert}))) << expert;
  for (const char* part : {"gate", "up"}) {
    GgufWriter twice = with_gate_and_up_together();
    twice.tensors.push_back(tiny_model().tensor("blk.0.ffn_" + std::string(part) + "_exps.weight"));
    EXPECT_THAT(refusal(twice), HasSubstr("not part of the architecture")) << part;
  }
  GgufWriter half = with_gate_and_up_together();
  half.tensor("blk.0.ffn_gate_up_exps.weight").shape[1] /= 2;
  EXPECT_NE(refusal(half), "");
}

TEST(Model, AcceptsCountsOfOtherWidthsAndHeadCountsPerLayer) {
  GgufWriter writer = tiny_model();
  writer.set("llama.block_count", GgufWriter::typed(GgufType::u64, GgufWriter::raw(std::uint64_t{2})));
  writer.set("llama.expert_count", GgufWriter::typed(GgufType::i32, GgufWriter::raw(std::int32_t{4})));
  writer.set_numbers("llama.attention.head_count_kv", GgufType::i32, std::vector<std::int32_t>{1, 1});
  EXPECT_EQ(refusal(writer), "");
  writer.set_numbers("llama.attention.head_count_kv", GgufType::i32, std::vector<std::int32_t>{1, 2});
  EXPECT_THAT(refusal(writer), HasSubstr("differs between layers"));
}

TEST(Model, KeepsOneContiguousBlobPerExpertWithTheFilesOwnValues) {
  const TinyShape shape{.ff = 64, .expert_type = TensorType::q4_0, .down_type = TensorType::q8_0};
  const GgufWriter writer = tiny_model(shape);
  const TemporaryFile file(writer.file());
  const Model model(file.path());
  const ExpertId id{1, 2};
  const std::span<const std::byte> blob = model.expert_blob(id);
  const ExpertBlobLayout& layout = model.blob_layout(1);
  EXPECT_EQ(std::ssize(blob), layout.bytes);
  EXPECT_EQ(layout.bytes, 2 * 64 * 32 / 32 * 18 + 64 * 32 / 32 * 34);
  for (const auto& [part, matrix] :
       {std::pair{"gate", layout.gate}, std::pair{"up", layout.up}, std::pair{"down", layout.down}}) {
    GgufWriter copy = writer;
    const std::string& data = copy.tensor("blk.1.ffn_" + std::string(part) + "_exps.weight").data;
    const std::size_t slice = data.size() / 4;
    const auto expected = reference::dequantise(matrix.type, std::as_bytes(std::span(data)).subspan(2 * slice, slice));
    const WeightView view{matrix.type, matrix.rows, matrix.cols, blob.data() + matrix.quants_offset,
                          blob.data() + matrix.scales_offset};
    std::vector<float> row(static_cast<std::size_t>(matrix.cols));
    for (int r = 0; r < matrix.rows; ++r) {
      dequantise_row(view, r, row.data());
      for (std::size_t c = 0; c < row.size(); ++c)
        ASSERT_EQ(row[c], expected[static_cast<std::size_t>(r) * row.size() + c]) << part;
    }
  }
}

TEST(Model, CountsTheBytesOfTheDemoModel) {
  const Model& model = demo_model();
  EXPECT_EQ(model.expert_blob({0, 0}).size(), 208'896u);
  EXPECT_EQ(model.expert_bytes(), 192 * 208'896);
  EXPECT_EQ(model.total_bytes(), model.file().data_bytes());
  EXPECT_EQ(model.file_sha256(), GgufReader(kDemoModelPath).sha256());
}

TEST(Model, RunsOnTokenIdsWhenTheTokenizerIsUnknown) {
  GgufWriter writer = tiny_model();
  writer.set_string("tokenizer.ggml.model", "wordpiece");
  const TemporaryFile file(writer.file());
  const Model model(file.path());
  EXPECT_FALSE(model.has_tokenizer());
  EXPECT_THROW(model.tokenizer(), InputError);
  ThreadPool pool(1);
  ModelSteps forward(model, pool);
  forward.step(std::vector<std::int32_t>{1, 5, 9});
  EXPECT_TRUE(std::isfinite(forward.logits()[0]));
}

TEST(Model, RefusesTokenizersThatDoNotFitTheModel) {
  EXPECT_THAT(refusal_after([](GgufWriter& w) {
                w.set_strings("tokenizer.ggml.tokens", {"a", "b"});
              }),
              HasSubstr("262"));
  EXPECT_THAT(refusal_after([](GgufWriter& w) {
                w.set_numbers("tokenizer.ggml.scores", GgufType::u8, std::vector<std::uint8_t>(262, 0));
              }),
              HasSubstr("array of f32"));
  EXPECT_THAT(refusal_after([](GgufWriter& w) {
                w.set_numbers("tokenizer.ggml.token_type", GgufType::i32, std::vector<std::int32_t>(262, 9));
              }),
              HasSubstr("unknown type 9"));
  EXPECT_THAT(refusal_with_u32("tokenizer.ggml.bos_token_id", 262), HasSubstr("bos_token_id"));
}

TEST(ModelInfo, DescribesTheDemoModel) {
  const nlohmann::json info = model_info(kDemoModelPath);
  EXPECT_EQ(info["layers"], 12);
  EXPECT_EQ(info["router"]["experts"], 16);
  EXPECT_EQ(info["experts_bytes"], 192 * 208'896);
  EXPECT_EQ(info["expert_by_layer"][11]["bytes"], 208'896);
  EXPECT_EQ(info["tokenizer"]["tokens"], 8192);
  EXPECT_EQ(info["budgets"][0]["slots"], 24);  // an eighth of 192
  EXPECT_EQ(info["budgets"][4]["slots_per_layer"], 16);
  const std::string text = model_info_text(info);
  EXPECT_THAT(text,
              AllOf(HasSubstr("Tidepool 42M MoE"), HasSubstr("16 experts a layer, top 2"), HasSubstr("204.0 KiB")));
}

TEST(ModelInfo, EscapesTextFromTheFile) {
  GgufWriter writer = tiny_model();
  writer.set_string("general.name", "evil \x1b[2J\xff name");
  const TemporaryFile file(writer.file());
  const std::string text = model_info_text(model_info(file.path()));
  EXPECT_THAT(text, HasSubstr("evil \\x1b[2J\\xff name"));
  EXPECT_NO_THROW(model_info(file.path()).dump());
}

}  // namespace
}  // namespace expertscope
