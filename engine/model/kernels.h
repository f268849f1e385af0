// The SIMD kernels of the forward pass, over float32 activations.
//
// Every dot product is one chain of fused multiply-adds in eight lanes, values 8i + lane in order of i, then a fixed
// tree over the lanes: ((0+2)+(1+3)) + ((4+6)+(5+7)). Quantised weights are multiplied out first, to the float32 values
// that the `gguf` package gives them: exact for Q8_0, Q4_0 and Q6_K, d * scale * quant - dmin * minimum rounded once
// for Q4_K and Q5_K. So results are those of the dequantised matrix, and a row's result is the same bits on every
// x86-64-v3 CPU, whatever the batch it is in and however many threads share the rows.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/model/integer_products.h"
#include "engine/model/model_description.h"
#include "engine/model/thread_pool.h"
#include "engine/model/weight_matrix.h"

namespace expertscope {

// y = x / rms(x) * weight, over n values; n a multiple of 8. y may be x.
void rms_norm(const float* x, const float* weight, float eps, int n, float* y);

// Softmax of `n` values in place. The buffer has room for a multiple of 8, and what lies behind n is overwritten.
void softmax(float* values, int n);

// Rotates the leading rule.dims values of one head; cosine and sine have dims / 2 entries.
void rope_rotate(RopeStyle style, int dims, const float* cosine, const float* sine, float* head);
std::vector<double> rope_frequencies(const RopeRule& rule);  // dims / 2 angles per position
void rope_angles(std::span<const double> frequencies, int position, float* cosine, float* sine);

// One query head over `length` cached positions: out[head_dim] = softmax(q k^T / sqrt(head_dim)) v. keys and values are
// rows of head_dim (a multiple of 8); scores is scratch for `length` floats rounded up to a multiple of 8.
void attend(const float* query, const float* keys, const float* values, int length, int head_dim, float* scores,
            float* out);

// n a multiple of 8.
void add(const float* a, int n, float* x);                       // x += a
void scale(const float* a, float factor, int n, float* x);       // x = factor * a
void add_scaled(const float* a, float factor, int n, float* x);  // x += factor * a, fused

void silu_multiply(const float* up, int n, float* h);  // h = silu(h) * up; any n

// The real values of one row: out[cols].
void dequantise_row(const WeightView& w, int row, float* out);

// Products with weight matrices. Holds per-thread scratch; one object per pool user.
class Kernels {
 public:
  explicit Kernels(ThreadPool& pool);

  // y[t][row] = W x[t] for every token t: x and y are arrays of pointers to rows.
  void multiply(const WeightView& w, std::span<const float* const> x, std::span<float* const> y);

  // Up to kMostProducts of them, of the same number of tokens, in one parallel loop.
  static constexpr std::size_t kMostProducts = 32;
  struct Product {
    WeightView w;
    std::span<const float* const> x;
    std::span<float* const> y;
  };
  void multiply(std::span<const Product> products);
  // The same of one token, in integers where the types have such products: for machines whose results need not be the
  // same on every CPU.
  void multiply_integers(std::span<const Product> products);

  // h[t] = silu(gate x[t]) * (up x[t]): both matrices have the same shape.
  void gated_multiply(const WeightView& gate, const WeightView& up, std::span<const float* const> x,
                      std::span<float* const> h);

  // One token's product on the calling thread, for small matrices.
  static void multiply_serial(const WeightView& w, const float* x, float* y);

 private:
  struct Scratch {  // of one thread
    std::vector<float> rows, up;
    std::vector<float*> up_rows;
  };
  // Runs body(product, begin, end, thread) over ranges of the rows of all products in one parallel loop.
  template <typename Body>
  void for_ranges(std::span<const Product> products, Body body);

  ThreadPool& pool_;
  std::vector<Scratch> scratch_;
  std::vector<IntegerRow> integers_;  // of the products of multiply_integers
};

}  // namespace expertscope
