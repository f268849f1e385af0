// Every type against the dequantisation of the `gguf` package: tests/golden/make_dequantisation.py wrote down what that
// gives for random and for awkward blocks. All values must be the same bits; of NaNs it is enough that both are.
#include <bit>
#include <cmath>
#include <fstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "engine/model/kernels.h"
#include "engine/model/reference_ops.h"

namespace expertscope {
namespace {

std::vector<std::byte> from_hex(const std::string& hex) {
  std::vector<std::byte> out(hex.size() / 2);
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<std::byte>(std::stoi(hex.substr(i * 2, 2), nullptr, 16));
  }
  return out;
}

struct Case {
  std::string what;
  std::vector<std::byte> blocks;
  std::vector<float> values;
};

std::vector<Case> golden_cases(TensorType type) {
  const auto all = nlohmann::json::parse(std::ifstream(std::string(ES_TESTS_DIR) + "/golden/dequantisation.json"));
  std::vector<Case> cases;
  for (const auto& item : all.at(std::string(name(type)))) {
    const std::vector<std::byte> values = from_hex(item.at("values"));
    Case one{item.at("what"), from_hex(item.at("blocks")), std::vector<float>(values.size() / 4)};
    std::memcpy(one.values.data(), values.data(), values.size());
    cases.push_back(std::move(one));
  }
  return cases;
}

bool same_bits(float a, float b) {
  return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b) || (std::isnan(a) && std::isnan(b));
}

class Dequantisation : public testing::TestWithParam<TensorType> {};

TEST_P(Dequantisation, GivesTheBitsOfTheGgufPackage) {
  int values = 0;
  for (const Case& golden : golden_cases(GetParam())) {
    const int cols = static_cast<int>(golden.values.size());
    const WeightMatrix matrix(GetParam(), 1, cols, golden.blocks);
    std::vector<float> row(golden.values.size());
    dequantise_row(matrix.view(), 0, row.data());
    for (std::size_t i = 0; i < row.size(); ++i) {
      ASSERT_TRUE(same_bits(row[i], golden.values[i]))
          << golden.what << ", value " << i << ": " << row[i] << " instead of " << golden.values[i];
    }
    values += cols;
  }
  EXPECT_GE(values, 64);
}

// What tests of products are measured by.
TEST_P(Dequantisation, OfTheReferenceIsTheSameBeforeRounding) {
  for (const Case& golden : golden_cases(GetParam())) {
    const std::vector<double> values = reference::dequantise(GetParam(), golden.blocks);
    ASSERT_EQ(values.size(), golden.values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
      const float rounded = static_cast<float>(values[i]), expected = golden.values[i];
      ASSERT_TRUE(rounded == expected || (std::isnan(rounded) && std::isnan(expected))) << golden.what << " " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, Dequantisation, testing::ValuesIn(kTensorTypes),
                         [](const auto& type) { return std::string(name(type.param)); });

// Rows of a matrix begin where the planes say, not only its first one.
TEST(Dequantise, FindsEveryRowOfAMatrix) {
  for (const TensorType type : kTensorTypes) {
    const auto block = static_cast<std::size_t>(block_values(type) > 1 ? block_values(type) : 32);
    const auto bytes = static_cast<std::size_t>(tensor_bytes(type, static_cast<std::int64_t>(block)));
    std::vector<std::byte> file;
    std::vector<float> expected;
    for (const Case& golden : golden_cases(type)) {
      file.insert(file.end(), golden.blocks.begin(), golden.blocks.end());
      expected.insert(expected.end(), golden.values.begin(), golden.values.end());
    }
    const std::size_t rows = file.size() / bytes / 2;  // of two blocks each
    const WeightMatrix matrix(type, static_cast<int>(rows), static_cast<int>(block * 2),
                              std::span(file).first(rows * 2 * bytes));
    std::vector<float> row(block * 2);
    for (std::size_t r = 0; r < rows; ++r) {
      dequantise_row(matrix.view(), static_cast<int>(r), row.data());
      for (std::size_t c = 0; c < row.size(); ++c) {
        ASSERT_TRUE(same_bits(row[c], expected[r * row.size() + c])) << name(type) << " row " << r << " column " << c;
      }
    }
  }
}

TEST(Dequantise, KnowsTheGoldenBlocksOfTheKQuants) {
  std::vector<std::byte> q4(144);
  q4[1] = q4[3] = std::byte{0x3c};  // d = dmin = 1
  q4[4] = std::byte{0xc5}, q4[8] = std::byte{0x8a}, q4[12] = std::byte{0x21};
  q4[16] = std::byte{0x03};       // quant 3 of group 0
  q4[16 + 64] = std::byte{0x02};  // quant 2 of group 4
  std::vector<float> y(256);
  dequantise_row(WeightMatrix(TensorType::q4_k, 1, 256, q4).view(), 0, y.data());
  EXPECT_EQ(y[0], 5 * 3 - 10);
  EXPECT_EQ(y[128], 49 * 2 - 34);

  std::vector<std::byte> q6(210);
  for (std::size_t i = 0; i < 16; ++i) q6[192 + i] = std::byte{1};
  q6[209] = std::byte{0x3c};
  q6[0] = std::byte{0x4f}, q6[32] = std::byte{0x21}, q6[128] = std::byte{0xe4};
  dequantise_row(WeightMatrix(TensorType::q6_k, 1, 256, q6).view(), 0, y.data());
  EXPECT_EQ(y[0], -17);
  EXPECT_EQ(y[32], -15);
  EXPECT_EQ(y[64], 4);
  EXPECT_EQ(y[96], 18);
}

}  // namespace
}  // namespace expertscope
