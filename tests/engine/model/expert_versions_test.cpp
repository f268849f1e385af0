// Experts below the file's precision.
#include "engine/model/expert_versions.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include <gtest/gtest.h>

#include "engine/error.h"
#include "engine/model/expert_version_file.h"
#include "engine/model/kernels.h"
#include "tests/engine/model/demo_model.h"

namespace expertscope {
namespace {

std::vector<float> row_of(const ExpertMatrix& m, std::span<const std::byte> blob, int row) {
  std::vector<float> out(static_cast<std::size_t>(m.cols));
  dequantise_row(matrix_in_blob(m, blob.data()), row, out.data());
  return out;
}

// Root of the mean squared difference to the file's weights, over their root mean square.
double error_of(Precision precision, ExpertId id) {
  const ExpertVersions versions(demo_model(), precision);
  const ExpertMatrix &native = demo_model().blob_layout(id.layer).up, &lower = versions.layout(id.layer).up;
  double difference = 0, size = 0;
  for (int r = 0; r < native.rows; ++r) {
    const std::vector<float> a = row_of(native, demo_model().expert_blob(id), r),
                             b = row_of(lower, versions.blob(id), r);
    for (std::size_t i = 0; i < a.size(); ++i) {
      difference += std::pow(a[i] - b[i], 2);
      size += std::pow(a[i], 2);
    }
  }
  return std::sqrt(difference / size);
}

TEST(ExpertVersions, LoseMoreTheFewerBitsTheyHave) {
  const ExpertId id{3, 7};
  const double int8 = error_of(Precision::int8, id), int4 = error_of(Precision::int4, id),
               int2 = error_of(Precision::int2, id);
  EXPECT_LT(int8, 0.005);
  EXPECT_GT(int4, int8);
  EXPECT_LT(int4, 0.12);
  EXPECT_GT(int2, int4);
  EXPECT_LT(int2, 0.5);
}

TEST(ExpertVersions, TwoBitsKnowFourLevels) {
  const ExpertVersions versions(demo_model(), Precision::int2);
  const ExpertId id{0, 0};
  const std::vector<float> row = row_of(versions.layout(0).gate, versions.blob(id), 5);
  for (std::size_t block = 0; block < row.size(); block += 32) {
    float half_step = std::fabs(row[block]);
    for (std::size_t i = block; i < block + 32; ++i) half_step = std::min(half_step, std::fabs(row[i]));
    for (std::size_t i = block; i < block + 32; ++i) {
      const float level = std::fabs(row[i]) / half_step;
      EXPECT_TRUE(std::fabs(level - 1) < 1e-5 || std::fabs(level - 3) < 1e-5) << level;
    }
  }
}

TEST(ExpertVersions, ABlockOfZerosStaysZeroInFourAndEightBits) {
  const std::vector<float> zeros(32, 0.0f);
  for (Precision p : {Precision::int8, Precision::int4}) {
    std::vector<std::byte> quants(32), scales(2);
    quantise(p, zeros.data(), 32, quants.data(), scales.data());
    const WeightView view{p == Precision::int8 ? TensorType::q8_0 : TensorType::q4_0, 1, 32, quants.data(),
                          scales.data()};
    std::vector<float> out(32, 1.0f);
    dequantise_row(view, 0, out.data());
    for (float v : out) EXPECT_EQ(v, 0.0f);
  }
}

// --- in a file of their own

TEST(ExpertVersionFile, ReadsBackWhatIsMadeInMemory) {
  const Model in_file(kDemoModelPath, ExpertHome::file);
  for (Precision precision : {Precision::int8, Precision::int2}) {
    const ExpertVersions memory(demo_model(), precision);
    const ExpertVersionFile file(in_file, precision, testing::TempDir());
    for (const ExpertId id : {ExpertId{0, 0}, ExpertId{3, 7}, ExpertId{11, 15}}) {
      std::vector<std::byte> blob(static_cast<std::size_t>(file.layout(id.layer).bytes));
      file.read(id, blob.data());
      EXPECT_TRUE(std::ranges::equal(blob, memory.blob(id)));
    }
  }
}

TEST(ExpertVersionFile, LeavesNothingBehindAndSaysWhereItCannotLie) {
  const Model in_file(kDemoModelPath, ExpertHome::file);
  const std::filesystem::path folder = std::filesystem::path(testing::TempDir()) / "versions";
  std::filesystem::create_directory(folder);
  {
    const ExpertVersionFile file(in_file, Precision::int4, folder);
    EXPECT_TRUE(std::filesystem::is_empty(folder)) << "it has no name";
  }
  try {
    const ExpertVersionFile file(in_file, Precision::int4, folder / "missing");
    FAIL();
  } catch (const InputError& e) {
    EXPECT_NE(std::string(e.what()).find("missing"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("TMPDIR"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace expertscope
