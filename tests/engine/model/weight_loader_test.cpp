// Weights arrive where they belong whatever their type and however many threads read them, and a file that is damaged
// under way is an error and not a model of zeros.
#include "engine/model/weight_loader.h"

#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/error.h"
#include "engine/model/kernels.h"
#include "engine/model/model.h"
#include "engine/model/reference_ops.h"
#include "tests/engine/model/forward_pass.h"
#include "tests/engine/model/gguf_writer.h"

namespace expertscope {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// One tensor of a type, of some pieces' size.
GgufWriter large_tensor(TensorType type, std::int64_t rows) {
  GgufWriter writer;
  std::mt19937 random(11);
  const std::string some = random_tensor_data(type, 4096, random);  // random enough: 16 KiB of it at a time
  std::string data;
  for (std::int64_t row = 0; row < rows; ++row) {
    data += some;
    std::memcpy(data.data() + data.size() - 64, &row, sizeof row);
  }
  writer.tensors.push_back({"large", {4096, rows}, ggml_type_id(type), data, {}});
  return writer;
}

std::string failure(WeightLoader& loader, int threads) {
  try {
    loader.run(threads);
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(WeightLoader, GivesTheSameBytesOnAnyNumberOfThreads) {
  for (const TensorType type : {TensorType::f16, TensorType::q8_0, TensorType::q4_k, TensorType::q6_k}) {
    const GgufWriter writer = large_tensor(type, 3000);
    const TemporaryFile file(writer.file());
    const GgufReader reader(file.path());
    const std::string& data = writer.tensors[0].data;
    ASSERT_GT(data.size(), 6u << 20) << "more than one piece";
    const WeightMatrix expected(type, 3000, 4096, std::as_bytes(std::span(data)));
    for (const int threads : {1, 5}) {
      WeightLoader loader(reader);
      WeightMatrix matrix = loader.add_matrix(reader.tensors()[0]);
      loader.run(threads);
      EXPECT_EQ(std::memcmp(matrix.quants(), expected.view().quants, data.size()), 0) << name(type);
      EXPECT_EQ(matrix.scales() != nullptr, has_scales_plane(type));
    }
  }
}

TEST(WeightLoader, SaysWhichTensorTheFileLost) {
  const GgufWriter writer = large_tensor(TensorType::q4_k, 8000);
  const TemporaryFile file(writer.file());
  const GgufReader reader(file.path());
  std::filesystem::resize_file(file.path(), std::filesystem::file_size(file.path()) / 2);
  for (const int threads : {1, 5}) {
    WeightLoader loader(reader);
    const WeightMatrix matrix = loader.add_matrix(reader.tensors()[0]);
    const std::string first = failure(loader, threads);
    EXPECT_THAT(first, AllOf(HasSubstr("large"), HasSubstr("shortened meanwhile")));
    EXPECT_THAT(first, HasSubstr("byte " + std::to_string(std::filesystem::file_size(file.path())))) << threads;
  }
}

// The K-quants have rows of 256 values at least.
TinyShape wide_shape(TensorType type, TensorType down) {
  return {.width = 256, .ff = 512, .expert_type = type, .down_type = down, .dense_type = type};
}

TEST(Model, LoadsEveryMixtureOfTypesWithinALayer) {
  for (const TensorType type : kTensorTypes) {
    for (const TensorType down : kTensorTypes) {
      const GgufWriter writer = tiny_model(wide_shape(type, down));
      const TemporaryFile file(writer.file());
      const Model model(file.path());
      const ExpertBlobLayout& layout = model.blob_layout(1);
      const std::span<const std::byte> blob = model.expert_blob({1, 3});
      EXPECT_EQ(layout.bytes, 2 * tensor_bytes(type, 256 * 512) + tensor_bytes(down, 256 * 512));
      for (const auto& [part, matrix] :
           {std::pair{"gate", layout.gate}, std::pair{"up", layout.up}, std::pair{"down", layout.down}}) {
        EXPECT_EQ(matrix.quants_offset % 64, 0) << part;
        EXPECT_EQ(matrix.scales_offset % 64, 0) << part;
        GgufWriter copy = writer;
        const std::string& data = copy.tensor("blk.1.ffn_" + std::string(part) + "_exps.weight").data;
        const auto own = std::as_bytes(std::span(data)).subspan(data.size() / 4 * 3);
        const WeightMatrix expected(matrix.type, matrix.rows, matrix.cols, own);
        const std::int64_t values = std::int64_t{matrix.rows} * matrix.cols;
        EXPECT_EQ(std::memcmp(blob.data() + matrix.quants_offset, expected.view().quants,
                              static_cast<std::size_t>(quants_bytes(matrix.type, values))),
                  0)
            << name(matrix.type);
        if (!has_scales_plane(matrix.type)) continue;
        EXPECT_EQ(std::memcmp(blob.data() + matrix.scales_offset, expected.view().scales,
                              static_cast<std::size_t>(scales_bytes(matrix.type, values))),
                  0)
            << name(matrix.type);
      }
    }
  }
}

// As files called Q4_K_M have them.
TEST(Model, ComputesWithQ4KBesideQ6KInOneLayer) {
  GgufWriter writer = tiny_model(wide_shape(TensorType::q4_k, TensorType::q6_k));
  const TemporaryFile file(writer.file());
  const Model model(file.path());
  ThreadPool pool(2);
  ModelSteps forward(model, pool);
  forward.step(std::vector<std::int32_t>{1, 5, 9, 17, 3});
  const std::vector<float> whole(forward.logits().begin(), forward.logits().end());
  const auto weights = [&](const char* part, std::uint16_t expert) {
    const std::string& data = writer.tensor("blk.1.ffn_" + std::string(part) + "_exps.weight").data;
    const auto slice = std::as_bytes(std::span(data)).subspan(data.size() / 4 * expert, data.size() / 4);
    return reference::dequantise(part[0] == 'd' ? TensorType::q6_k : TensorType::q4_k, slice);
  };
  for (int token = 0; token < 5; ++token) {
    const std::vector<std::uint16_t>& picks = forward.picks[1][static_cast<std::size_t>(token)].ids;
    for (int rank = 0; rank < 2; ++rank) {
      const std::uint16_t expert = picks[static_cast<std::size_t>(rank)];
      const std::vector<double> expected =
          reference::expert(weights("gate", expert), weights("up", expert), weights("down", expert),
                            forward.arithmetic().expert_input(token));
      double largest = 0;
      for (const double value : expected) largest = std::max(largest, std::abs(value));
      ASSERT_GT(largest, 0);
      const std::span<const float> actual = forward.arithmetic().expert_output(token, rank);
      for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(actual[i], expected[i], largest * 1e-5);
    }
  }
  ModelSteps one_by_one(model, pool);
  for (const std::int32_t id : {1, 5, 9, 17, 3}) one_by_one.step(std::span(&id, 1));
  EXPECT_EQ(whole, std::vector<float>(one_by_one.logits().begin(), one_by_one.logits().end()));
}

TEST(Model, RefusesRowsThatBlocksDoNotDivide) {
  GgufWriter writer = tiny_model();
  GgufWriter::Tensor& tensor = writer.tensor("blk.0.ffn_down_exps.weight");
  tensor.type_id = ggml_type_id(TensorType::q4_k);
  const TemporaryFile file(writer.file());
  try {
    const Model model(file.path());
    FAIL();
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("blk.0.ffn_down_exps.weight"), HasSubstr("rows of 32 values"),
                                    HasSubstr("256 that Q4_K needs")));
  }
}

TEST(Model, HandsOutTheHostStoreAsOnePiece) {
  const TemporaryFile file(tiny_model(wide_shape(TensorType::q4_k, TensorType::q6_k)).file());
  const Model model(file.path());
  const std::span<const std::byte> store = model.expert_store();
  for (const ExpertId id : {ExpertId{0, 0}, ExpertId{1, 3}}) {
    const std::span<const std::byte> blob = model.expert_blob(id);
    EXPECT_GE(blob.data(), store.data());
    EXPECT_LE(blob.data() + blob.size(), store.data() + store.size());
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(blob.data()) % 64, 0u);
  }
}

TEST(Model, ReadsAnExpertThatStaysInTheFileAsItWouldLieInMemory) {
  for (const TensorType type : {TensorType::q8_0, TensorType::q4_k}) {
    const TemporaryFile file(tiny_model(wide_shape(type, TensorType::q6_k)).file());
    const Model in_memory(file.path()), in_file(file.path(), ExpertHome::file);
    EXPECT_TRUE(in_file.expert_store().empty());
    EXPECT_EQ(in_file.expert_bytes(), in_memory.expert_bytes());
    const ExpertId ids[] = {{0, 0}, {1, 3}};
    const auto bytes = static_cast<std::size_t>(in_file.blob_layout(0).bytes);
    std::vector<std::vector<std::byte>> blobs(2, std::vector<std::byte>(bytes));
    const Model::ExpertRead reads[] = {{ids[0], blobs[0].data()}, {ids[1], blobs[1].data()}};
    in_file.read_experts(reads, 3);
    for (std::size_t i = 0; i < 2; ++i) EXPECT_TRUE(std::ranges::equal(blobs[i], in_memory.expert_blob(ids[i]))) << i;
  }
}

}  // namespace
}  // namespace expertscope
