// The SIMD kernels against their definitions. Tolerances: products of n columns within n * 1e-7 of the sum of absolute
// terms; norms, rotation, attention and softmax within 2e-6 of the largest value. Dequantisation is exact for all
// types.
#include "engine/model/kernels.h"

#include <bit>
#include <cmath>

#include <gtest/gtest.h>

#include "engine/model/elementary.h"
#include "engine/model/reference_ops.h"
#include "tests/engine/model/gguf_writer.h"

namespace expertscope {
namespace {

std::span<const std::byte> bytes_of(const std::string& data) {
  return std::as_bytes(std::span(data));
}

std::vector<float> random_floats(std::size_t n, std::mt19937& random) {
  std::vector<float> out(n);
  for (float& v : out) v = static_cast<float>(static_cast<int>(random() % 20001) - 10000) * 1e-4f;
  return out;
}

void expect_near(std::span<const float> actual, std::span<const double> expected, double tolerance) {
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) ASSERT_NEAR(actual[i], expected[i], tolerance) << "at " << i;
}

std::vector<float> dequantised(TensorType type, const std::string& block) {
  const WeightMatrix matrix(type, 1, 32, bytes_of(block));
  std::vector<float> out(32);
  dequantise_row(matrix.view(), 0, out.data());
  return out;
}

bool same_value(float a, double b) {
  return a == b || (std::isnan(a) && std::isnan(b));
}

TEST(Dequantise, KnowsTheGoldenBlocks) {
  std::string q4(18, '\0');
  q4.replace(0, 3, std::string("\x00\x3c\x90", 3));  // d = 1
  EXPECT_EQ(dequantised(TensorType::q4_0, q4)[0], -8);
  EXPECT_EQ(dequantised(TensorType::q4_0, q4)[16], 1);
  std::string q8(34, '\0');
  q8.replace(0, 2, std::string("\x00\x38", 2));  // d = 0.5
  q8[2 + 3] = '\x80';
  EXPECT_EQ(dequantised(TensorType::q8_0, q8)[3], -64);
}

TEST(Dequantise, IsExactForAllHalves) {
  for (std::uint32_t first = 0; first < 0x10000; first += 32) {
    std::string block;
    for (std::uint32_t i = 0; i < 32; ++i) block += GgufWriter::raw(static_cast<std::uint16_t>(first + i));
    for (const TensorType type : {TensorType::f16, TensorType::bf16}) {
      const std::vector<float> actual = dequantised(type, block);
      const std::vector<double> expected = reference::dequantise(type, bytes_of(block));
      for (std::size_t i = 0; i < 32; ++i) {
        ASSERT_TRUE(same_value(actual[i], expected[i])) << name(type) << " " << first + i;
      }
    }
  }
}

TEST(Dequantise, IsExactForEveryQuantAndScale) {
  for (const std::uint16_t scale : {0x0001, 0x03ff, 0x0400, 0x3c00, 0x7bff, 0x7c00, 0x8001, 0xbc00}) {
    for (int first = 0; first < 256; first += 32) {
      for (const TensorType type : {TensorType::q8_0, TensorType::q4_0}) {
        std::string block = GgufWriter::raw(scale);
        for (std::int64_t i = 0; i < block_bytes(type) - 2; ++i) block += static_cast<char>(first + i);
        const std::vector<float> actual = dequantised(type, block);
        const std::vector<double> expected = reference::dequantise(type, bytes_of(block));
        for (std::size_t i = 0; i < 32; ++i) {
          ASSERT_TRUE(same_value(actual[i], expected[i])) << name(type) << " scale " << scale << " value " << i;
        }
      }
    }
  }
}

struct Shape {
  int rows, cols;
};

class Products : public testing::TestWithParam<TensorType> {};

// Two matrices share a token's activations, a third has its own; of types without integer products the float ones stay.
TEST_P(Products, InIntegersAreThoseOfTheDequantisedMatrixWithinFourteenBits) {
  std::mt19937 random(9);
  ThreadPool pool(2);
  Kernels kernels(pool);
  for (Shape shape : {Shape{8, 256}, Shape{13, 288}, Shape{70, 544}, Shape{300, 1056}}) {
    const int block = static_cast<int>(block_values(GetParam()));
    shape.cols = (shape.cols + block - 1) / block * block;
    const auto cols = static_cast<std::size_t>(shape.cols);
    std::vector<std::string> data;
    std::vector<WeightMatrix> matrices;
    for (int i = 0; i < 3; ++i) {
      data.push_back(random_tensor_data(GetParam(), std::int64_t{shape.rows} * shape.cols, random));
      matrices.emplace_back(GetParam(), shape.rows, shape.cols, bytes_of(data.back()));
    }
    const std::vector<std::vector<float>> x = {random_floats(cols, random), random_floats(cols, random)};
    std::vector<std::vector<float>> y(3, std::vector<float>(static_cast<std::size_t>(shape.rows)));
    const float* from[3] = {x[0].data(), x[0].data(), x[1].data()};
    float* to[3] = {y[0].data(), y[1].data(), y[2].data()};
    std::vector<Kernels::Product> products;
    for (std::size_t i = 0; i < 3; ++i) products.push_back({matrices[i].view(), {&from[i], 1}, {&to[i], 1}});
    kernels.multiply_integers(products);
    for (std::size_t i = 0; i < 3; ++i) {
      const std::vector<double> w = reference::dequantise(GetParam(), bytes_of(data[i]));
      const std::vector<double> expected = reference::multiply(w, i < 2 ? x[0] : x[1]);
      // Each activation is off by half a step of 1 / 16383 at most: by a random half of it here.
      for (std::size_t row = 0; row < expected.size(); ++row) {
        double squares = 0;
        for (std::size_t c = 0; c < cols; ++c) squares += w[row * cols + c] * w[row * cols + c];
        ASSERT_NEAR(y[i][row], expected[row], std::sqrt(squares) * 2e-4 + 1e-6) << name(GetParam()) << " row " << row;
      }
    }
  }
}

TEST_P(Products, AreThoseOfTheDequantisedMatrix) {
  std::mt19937 random(1);
  ThreadPool pool(2);
  Kernels kernels(pool);
  for (Shape shape : {Shape{1, 32}, Shape{8, 256}, Shape{13, 288}, Shape{70, 544}, Shape{300, 1056}}) {
    const int block = static_cast<int>(block_values(GetParam()));
    shape.cols = (shape.cols + block - 1) / block * block;
    const std::string data = random_tensor_data(GetParam(), std::int64_t{shape.rows} * shape.cols, random);
    const WeightMatrix matrix(GetParam(), shape.rows, shape.cols, bytes_of(data));
    const std::vector<double> w = reference::dequantise(GetParam(), bytes_of(data));
    for (const std::size_t tokens : {1u, 2u, 3u, 4u, 5u, 6u, 17u}) {
      std::vector<std::vector<float>> x(tokens), y(tokens, std::vector<float>(static_cast<std::size_t>(shape.rows)));
      std::vector<const float*> from;
      std::vector<float*> to;
      for (std::size_t t = 0; t < tokens; ++t) {
        x[t] = random_floats(static_cast<std::size_t>(shape.cols), random);
        from.push_back(x[t].data());
        to.push_back(y[t].data());
      }
      kernels.multiply(matrix.view(), from, to);
      for (std::size_t t = 0; t < tokens; ++t) {
        double scale = 0;
        for (int c = 0; c < shape.cols; ++c) scale += std::abs(w[static_cast<std::size_t>(c)]);
        expect_near(y[t], reference::multiply(w, x[t]), shape.cols * 1e-7 * std::max(scale, 1e-3));
        // The same bits alone and on the calling thread.
        std::vector<float> alone(y[t].size());
        Kernels::multiply_serial(matrix.view(), x[t].data(), alone.data());
        ASSERT_EQ(y[t], alone) << shape.rows << " x " << shape.cols << ", " << tokens << " tokens";
      }
    }
  }
}

TEST_P(Products, OfAnExpertAreItsFeedForwardNetwork) {
  std::mt19937 random(2);
  ThreadPool pool(2);
  Kernels kernels(pool);
  const bool wide_blocks = block_values(GetParam()) > 32;
  const int width = wide_blocks ? 256 : 96, ff = wide_blocks ? 512 : 160;
  const auto make = [&] { return random_tensor_data(GetParam(), width * ff, random); };
  const std::string gate = make(), up = make(), down = make();
  const WeightMatrix g(GetParam(), ff, width, bytes_of(gate)), u(GetParam(), ff, width, bytes_of(up)),
      d(GetParam(), width, ff, bytes_of(down));
  const auto values = [&](const std::string& data) { return reference::dequantise(GetParam(), bytes_of(data)); };
  std::vector<std::vector<float>> x, h(5, std::vector<float>(static_cast<std::size_t>(ff))),
      y(5, std::vector<float>(static_cast<std::size_t>(width)));
  std::vector<const float*> from, hidden_from;
  std::vector<float*> hidden, to;
  for (std::size_t t = 0; t < 5; ++t) x.push_back(random_floats(static_cast<std::size_t>(width), random));
  for (std::size_t t = 0; t < 5; ++t) {
    from.push_back(x[t].data());
    hidden.push_back(h[t].data());
    hidden_from.push_back(h[t].data());
    to.push_back(y[t].data());
  }
  kernels.gated_multiply(g.view(), u.view(), from, hidden);
  kernels.multiply(d.view(), hidden_from, to);
  for (std::size_t t = 0; t < 5; ++t)
    expect_near(y[t], reference::expert(values(gate), values(up), values(down), x[t]), 2e-5);
}

INSTANTIATE_TEST_SUITE_P(Types, Products, testing::ValuesIn(kTensorTypes),
                         [](const auto& type) { return std::string(name(type.param)); });

TEST(Products, OfSeveralMatricesInOneLoopAreThoseOfEach) {
  std::mt19937 random(3);
  ThreadPool pool(2);
  Kernels kernels(pool);
  const std::string a = random_tensor_data(TensorType::q8_0, 200 * 256, random),
                    b = random_tensor_data(TensorType::f16, 40 * 256, random);
  const WeightMatrix first(TensorType::q8_0, 200, 256, bytes_of(a)), second(TensorType::f16, 40, 256, bytes_of(b));
  const std::vector<float> x = random_floats(256, random);
  std::vector<float> y1(200), y2(40), alone1(200), alone2(40);
  const float* from[] = {x.data()};
  float* to1[] = {y1.data()};
  float* to2[] = {y2.data()};
  kernels.multiply(std::array<Kernels::Product, 2>{{{first.view(), from, to1}, {second.view(), from, to2}}});
  Kernels::multiply_serial(first.view(), x.data(), alone1.data());
  Kernels::multiply_serial(second.view(), x.data(), alone2.data());
  EXPECT_EQ(y1, alone1);
  EXPECT_EQ(y2, alone2);
}

TEST(Kernels, NormaliseByTheRootOfTheMeanSquare) {
  std::mt19937 random(4);
  for (const std::size_t n : {8u, 64u, 256u, 4096u}) {
    const std::vector<float> x = random_floats(n, random), weight = random_floats(n, random);
    std::vector<float> y(n);
    rms_norm(x.data(), weight.data(), 1e-5f, static_cast<int>(n), y.data());
    expect_near(y, reference::rms_norm(x, weight, 1e-5f), 2e-6);
  }
}

TEST(Kernels, SoftmaxSumsToOneForAnyLength) {
  std::mt19937 random(5);
  for (const std::size_t n : {1u, 2u, 7u, 8u, 9u, 16u, 100u}) {
    std::vector<float> x = random_floats(n, random);
    for (float& v : x) v *= 20;
    const std::vector<double> expected = reference::softmax(std::vector<double>(x.begin(), x.end()));
    x.resize((n + 7) / 8 * 8);
    softmax(x.data(), static_cast<int>(n));
    x.resize(n);
    expect_near(x, expected, 1e-6);
  }
}

TEST(Kernels, RotateInBothStyles) {
  std::mt19937 random(6);
  for (const RopeStyle style : {RopeStyle::interleaved, RopeStyle::halves}) {
    for (const int dims : {64, 48}) {
      const RopeRule rule{style, 10000, dims};
      const std::vector<double> frequencies = rope_frequencies(rule);
      for (const int position : {0, 1, 17, 1023, 32767, 1'000'000}) {
        std::vector<float> head = random_floats(64, random), cosine(static_cast<std::size_t>(dims / 2)),
                           sine(cosine.size());
        const std::vector<double> expected = reference::rope(rule, position, head);
        rope_angles(frequencies, position, cosine.data(), sine.data());
        rope_rotate(style, dims, cosine.data(), sine.data(), head.data());
        expect_near(head, expected, 1e-6);
      }
    }
  }
}

TEST(Kernels, AttendOverAnyNumberOfPositions) {
  std::mt19937 random(7);
  for (const std::size_t dim : {8u, 64u, 72u, 128u}) {
    for (const std::size_t length : {1u, 3u, 4u, 9u, 250u}) {
      const std::vector<float> q = random_floats(dim, random), k = random_floats(dim * length, random),
                               v = random_floats(dim * length, random);
      std::vector<float> out(dim), scores((length + 7) / 8 * 8);
      attend(q.data(), k.data(), v.data(), static_cast<int>(length), static_cast<int>(dim), scores.data(), out.data());
      expect_near(out, reference::attend(q, k, v), 2e-6);
    }
  }
}

TEST(Elementary, ExpIsCloseAndSaturates) {
  for (double x = -87; x < 88; x += 0.0137) {
    const float argument = static_cast<float>(x);
    ASSERT_NEAR(exp_f32(argument) / std::exp(double{argument}), 1, 2e-7) << x;
  }
  EXPECT_EQ(exp_f32(0), 1);
  EXPECT_EQ(exp_f32(-100), 0);
  EXPECT_EQ(exp_f32(-INFINITY), 0);
  EXPECT_TRUE(std::isfinite(exp_f32(INFINITY)));
  EXPECT_TRUE(std::isnan(exp_f32(NAN)));
}

TEST(Elementary, DoublesAreCloseToTheTruth) {
  for (double x = -700; x < 700; x += 0.71) ASSERT_NEAR(exp_f64(x) / std::exp(x), 1, 1e-14) << x;
  for (double x = 1e-300; x < 1e300; x *= 1.7)
    ASSERT_NEAR(log_f64(x), std::log(x), 1e-15 * std::max(1.0, std::abs(std::log(x)))) << x;
  for (double x = -2e6; x < 2e6; x += 777.77) {
    double s, c;
    sincos_f64(x, s, c);
    ASSERT_NEAR(s, std::sin(x), 1e-15 + 1e-16 * std::abs(x) * 1e-3) << x;
    ASSERT_NEAR(c, std::cos(x), 1e-15 + 1e-16 * std::abs(x) * 1e-3) << x;
  }
}

// Bits that must be the same on every machine: a change here changes every recorded session.
TEST(Elementary, GivesTheseBitsEverywhere) {
  EXPECT_EQ(std::bit_cast<std::uint32_t>(exp_f32(-1.25f)), 0x3e92b0c2u);
  double s, c;
  sincos_f64(1.0, s, c);
  EXPECT_EQ(std::bit_cast<std::uint64_t>(s), 0x3feaed548f090ceeu);
}

}  // namespace
}  // namespace expertscope
