// A model file is hostile until every byte of its header has been proved. Whatever is wrong with it, the answer is one
// InputError that says where.
#include "engine/model/gguf_reader.h"

#include <chrono>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/error.h"
#include "engine/model/model.h"
#include "tests/engine/model/demo_model.h"
#include "tests/engine/model/gguf_writer.h"

namespace expertscope {
namespace {

using testing::HasSubstr;

// The message with which a file is refused; empty when it loads.
std::string refusal(std::string_view bytes) {
  const TemporaryFile file(bytes);
  try {
    const Model model(file.path());
    return {};
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr(file.path().filename().string()));
    return error.what();
  }
}
std::string refusal(const GgufWriter& writer) {
  return refusal(writer.file());
}

template <typename T>
std::string with_bytes_at(std::string file, std::size_t offset, T value) {
  std::memcpy(file.data() + offset, &value, sizeof value);
  return file;
}

TEST(GgufReader, LoadsATinyModel) {
  EXPECT_EQ(refusal(tiny_model()), "");
}

TEST(GgufReader, ReadsVersion2) {
  GgufWriter writer = tiny_model();
  writer.version = 2;
  EXPECT_EQ(refusal(writer), "");
}

TEST(GgufReader, RefusesAMissingFileAFolderAndATextFile) {
  EXPECT_THROW(GgufReader("/nonexistent/model.gguf"), InputError);
  EXPECT_THROW(GgufReader{std::filesystem::temp_directory_path()}, InputError);
  EXPECT_THAT(refusal("once upon a time there was a text file"), HasSubstr("not a GGUF"));
  EXPECT_THAT(refusal(""), HasSubstr("cut off"));
}

TEST(GgufReader, RefusesOtherVersionsAndByteOrdersByName) {
  const std::string file = tiny_model().file();
  EXPECT_THAT(refusal(with_bytes_at(file, 4, std::uint32_t{1})), HasSubstr("version 1"));
  EXPECT_THAT(refusal(with_bytes_at(file, 4, std::uint32_t{4})), HasSubstr("version 4"));
  EXPECT_THAT(refusal(with_bytes_at(file, 4, std::uint32_t{0x03000000})), HasSubstr("big-endian"));
}

TEST(GgufReader, RefusesImpossibleCounts) {
  const std::string file = tiny_model().file();
  for (const std::uint64_t count :
       {std::uint64_t{1} << 20, std::uint64_t{1} << 40, std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
    EXPECT_THAT(refusal(with_bytes_at(file, 8, count)), HasSubstr("tensors"));
    EXPECT_THAT(refusal(with_bytes_at(file, 16, count)), HasSubstr("metadata keys"));
  }
}

TEST(GgufReader, RefusesAFileCutOffAnywhere) {
  const std::string file = tiny_model().file();
  for (std::size_t length = 0; length + 64 < file.size(); length += 64) {
    ASSERT_NE(refusal(file.substr(0, length)), "") << "cut at " << length;
  }
}

TEST(GgufReader, SurvivesEveryFlippedBitOfTheHeader) {
  const GgufWriter writer = tiny_model({.layers = 1});
  const std::string file = writer.file();
  // Every bit of the header's frame and of the tensor descriptions; one bit of each byte of the long token list.
  const std::size_t tokens = file.find("tokenizer.ggml.tokens"),
                    after_tokens = file.find("tokenizer.ggml.bos_token_id");
  int refused = 0, loaded = 0;
  for (std::size_t byte = 0; byte < writer.header().size(); ++byte) {
    const bool in_tokens = byte > tokens && byte < after_tokens;
    for (int bit = in_tokens ? static_cast<int>(byte % 8) : 0; bit < 8; bit += in_tokens ? 8 : 1) {
      const std::string broken = with_bytes_at(file, byte, static_cast<char>(file[byte] ^ (1 << bit)));
      ++(refusal(broken).empty() ? loaded : refused);
    }
  }
  EXPECT_GT(refused, 1000);
  EXPECT_GT(loaded, 100);  // names, scores and the like may change freely
}

TEST(GgufReader, RefusesBadAlignment) {
  for (const std::uint32_t alignment : {0u, 3u, 4u, 1u << 21, 1u << 31}) {
    GgufWriter writer = tiny_model();
    writer.set_u32("general.alignment", alignment);
    EXPECT_THAT(refusal(writer), HasSubstr("general.alignment")) << alignment;
  }
  GgufWriter writer = tiny_model();
  writer.set_f32("general.alignment", 32);
  EXPECT_THAT(refusal(writer), HasSubstr("u32"));
}

TEST(GgufReader, AcceptsOtherGoodAlignments) {
  for (const std::uint32_t alignment : {8u, 64u, 4096u}) {
    GgufWriter writer = tiny_model();
    writer.alignment = alignment;
    writer.set_u32("general.alignment", alignment);
    EXPECT_EQ(refusal(writer), "") << alignment;
  }
}

TEST(GgufReader, RefusesBadDimensions) {
  const auto with_shape = [](std::vector<std::int64_t> shape) {
    GgufWriter writer = tiny_model();
    writer.tensor("output_norm.weight").shape = std::move(shape);
    return refusal(writer);
  };
  EXPECT_THAT(with_shape({}), HasSubstr("0 dimensions"));
  EXPECT_THAT(with_shape({32, 1, 1, 1, 1}), HasSubstr("5 dimensions"));
  EXPECT_THAT(with_shape({0}), HasSubstr("dimension 0 is 0"));
  EXPECT_THAT(with_shape({-32}), HasSubstr("-32"));
  EXPECT_THAT(with_shape({std::int64_t{1} << 62}), HasSubstr("2^48"));
  EXPECT_THAT(with_shape({1 << 24, 1 << 24, 1 << 24}), HasSubstr("2^48"));
  EXPECT_THAT(with_shape({std::int64_t{1} << 40}), HasSubstr("past the end"));
}

TEST(GgufReader, RefusesRowsThatAreNoMultipleOfTheBlock) {
  GgufWriter writer = tiny_model();
  writer.tensor("blk.0.attn_q.weight").shape = {16, 64};
  EXPECT_THAT(refusal(writer), HasSubstr("Q8_0 needs"));
}

TEST(GgufReader, RefusesOtherTensorTypesByName) {
  GgufWriter writer = tiny_model();
  writer.tensor("blk.0.attn_q.weight").type_id = 12;
  EXPECT_THAT(refusal(writer), HasSubstr("Q4_K"));
  writer.tensor("blk.0.attn_q.weight").type_id = 777;
  EXPECT_THAT(refusal(writer), HasSubstr("777 (unknown)"));
}

TEST(GgufReader, RefusesGapsOverlapsAndReordering) {
  for (const std::uint64_t offset : {std::uint64_t{0}, std::uint64_t{32}, std::uint64_t{1} << 20, ~std::uint64_t{31}}) {
    GgufWriter writer = tiny_model();
    writer.tensor("output_norm.weight").offset = offset;
    EXPECT_THAT(refusal(writer), HasSubstr("gaps, overlaps")) << offset;
  }
}

TEST(GgufReader, RefusesDuplicates) {
  GgufWriter keys = tiny_model();
  keys.entries.push_back(keys.entries.front());
  EXPECT_THAT(refusal(keys), HasSubstr("appears twice"));
  GgufWriter tensors = tiny_model();
  tensors.tensors.push_back(tensors.tensors.front());
  EXPECT_THAT(refusal(tensors), HasSubstr("appears twice"));
}

TEST(GgufReader, RefusesNamesUnfitToShow) {
  using namespace std::string_literals;
  for (const std::string& name : {std::string(64, 'x'), ""s, "nul\0inside"s, "bad \xff utf-8"s, "\x1b[31mred"s,
                                  "\xc2\x9b"
                                  "31m"s}) {
    GgufWriter writer = tiny_model();
    writer.tensors.back().name = name;
    const std::string message = refusal(writer);
    EXPECT_THAT(message, HasSubstr("63 bytes")) << message;
    EXPECT_EQ(message.find('\x1b'), std::string::npos);
  }
  GgufWriter key = tiny_model();
  key.entries.back().first = "\x1b]0;title\x07";
  EXPECT_THAT(refusal(key), HasSubstr("control characters"));
}

TEST(GgufReader, RefusesHostileStringsAndArrays) {
  const auto with_value = [](const std::string& encoded) {
    GgufWriter writer = tiny_model();
    writer.set("general.description", encoded);
    return refusal(writer);
  };
  const auto raw = [](auto value) { return GgufWriter::raw(value); };
  EXPECT_THAT(with_value(GgufWriter::typed(GgufType::string, raw(~std::uint64_t{0}))), HasSubstr("at most"));
  EXPECT_THAT(with_value(GgufWriter::typed(GgufType::string, raw(std::uint64_t{1} << 23))),
              HasSubstr("are left in the file"));
  EXPECT_THAT(with_value(GgufWriter::typed(GgufType::array, raw(9u) + raw(std::uint64_t{1}))),
              HasSubstr("array of arrays"));
  EXPECT_THAT(with_value(GgufWriter::typed(GgufType::array, raw(0u) + raw(std::uint64_t{1} << 63))),
              HasSubstr("elements"));
  EXPECT_THAT(with_value(GgufWriter::typed(GgufType::array, raw(12u) + raw(std::uint64_t{1} << 24))),
              HasSubstr("are left"));
  EXPECT_THAT(with_value(GgufWriter::typed(GgufType::array, raw(8u) + raw(std::uint64_t{1} << 20))),
              HasSubstr("are left"));
  EXPECT_THAT(with_value(GgufWriter::typed(GgufType::array, raw(13u) + raw(std::uint64_t{1}))),
              HasSubstr("element type 13"));
  EXPECT_THAT(with_value(raw(13u)), HasSubstr("unknown type 13"));
}

TEST(GgufReader, RefusesABigFileOfNonsenseQuickly) {
  std::string file =
      "GGUF" + GgufWriter::raw(3u) + GgufWriter::raw(std::uint64_t{0}) + GgufWriter::raw(std::uint64_t{1});
  file += GgufWriter::text("k") +
          GgufWriter::typed(GgufType::array, GgufWriter::raw(8u) + GgufWriter::raw(std::uint64_t{131'000}));
  file.resize(1 << 20, '\0');  // 131,000 empty strings, then nothing
  const auto start = std::chrono::steady_clock::now();
  EXPECT_THAT(refusal(file), HasSubstr("general.architecture"));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(1));
}

TEST(GgufReader, ReadsTensorDescriptionsInLinearTime) {
  GgufWriter writer;
  for (int i = 0; i < 100'000; ++i)
    writer.tensors.push_back({"t" + std::to_string(i), {1}, 0, std::string(4, '\0'), {}});
  const TemporaryFile file(writer.file());
  EXPECT_EQ(GgufReader(file.path()).tensors().size(), 100'000u);
}

TEST(GgufReader, GivesValuesOnlyAsTheirType) {
  GgufWriter writer;
  writer.set_u32("number", 7);
  writer.set("large", GgufWriter::typed(GgufType::u64, GgufWriter::raw(~std::uint64_t{0})));
  writer.set("negative", GgufWriter::typed(GgufType::i16, GgufWriter::raw(std::int16_t{-3})));
  writer.set_numbers("bytes", GgufType::u8, std::vector<std::uint8_t>{1, 2, 255});
  writer.set_bool("odd flag", 7);
  const TemporaryFile file(writer.file());
  const GgufReader reader(file.path());
  EXPECT_EQ(reader.find_integer("number"), 7);
  EXPECT_EQ(reader.find_integer("negative"), -3);
  EXPECT_EQ(reader.find_integer("absent"), std::nullopt);
  EXPECT_EQ(reader.integers("bytes"), (std::vector<std::int64_t>{1, 2, 255}));
  EXPECT_EQ(reader.find_bool("odd flag"), true);
  EXPECT_THROW(reader.find_integer("large"), InputError);
  EXPECT_THROW(reader.find_string("number"), InputError);
  EXPECT_THROW(reader.find_number("number"), InputError);
  EXPECT_THROW(reader.float_array("bytes"), InputError);
  EXPECT_THROW(reader.int32_array("bytes"), InputError);
  EXPECT_THROW(reader.string_array("number"), InputError);
  EXPECT_THROW(reader.integer("number", 8, 9), InputError);
}

TEST(GgufReader, TellsOfAFileThatShrankMeanwhile) {
  const std::string bytes = tiny_model().file();
  TemporaryFile file(bytes);
  const GgufReader reader(file.path());
  file.write(std::string_view(bytes).substr(0, 100));
  std::vector<std::byte> out(64);
  EXPECT_THROW(reader.read(reader.tensors().back(), 0, out), InputError);
  EXPECT_THROW(reader.sha256(), RunError);
}

TEST(GgufReader, ComputesTheChecksumOfTheFile) {
  EXPECT_EQ(GgufReader(kDemoModelPath).sha256().substr(0, 8), "8ef9c59b");
}

}  // namespace
}  // namespace expertscope
