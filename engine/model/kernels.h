// The SIMD kernels of the forward pass, over float32 activations.
//
// Every dot product is one chain of fused multiply-adds in eight lanes, values 8i + lane in order of i, then a fixed tree
// over the lanes: ((0+2)+(1+3)) + ((4+6)+(5+7)). Quantised weights are multiplied out first (quant * scale, which is exact
// for Q8_0 and Q4_0), so results are those of the dequantised matrix. So a row's result is the same bits on every x86-64-v3
// CPU, whatever the batch it is in and however many threads share the rows.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/model/model_description.h"
#include "engine/model/thread_pool.h"
#include "engine/model/weight_matrix.h"

namespace expertscope {

// Deterministic elementary functions (our own, not libm's), for finite arguments.
float exp_f32(float x);          // relative error below 1e-6; 0 below -87.3, largest finite value above 88.7
double exp_f64(double x);        // for |x| <= 700
double log_f64(double x);        // for x > 0
void sincos_f64(double x, double& sine, double& cosine);  // for |x| <= 2e6

// y = x / rms(x) * weight, over n values; n a multiple of 8.
void rms_norm(const float* x, const float* weight, float eps, int n, float* y);

// Softmax in place. Sums in float64 in index order.
void softmax(std::span<float> values);

// Rotates the leading rule.dims values of one head; cosine and sine have dims / 2 entries.
void rope_rotate(RopeStyle style, int dims, const float* cosine, const float* sine, float* head);
void rope_angles(const RopeRule& rule, int position, float* cosine, float* sine);

// One query head over `length` cached positions: out[head_dim] = softmax(q k^T / sqrt(head_dim)) v. keys and values are
// rows of head_dim (a multiple of 8); scores is scratch for `length` floats.
void attend(const float* query, const float* keys, const float* values, int length, int head_dim, float* scores, float* out);

void add(const float* a, int n, float* x);                     // x += a
void add_scaled(const float* a, float scale, int n, float* x);  // x += scale * a, fused
void dequantise_row(const WeightView& w, int row, float* out);  // out[cols]

// Products with weight matrices. Holds per-thread scratch; one object per pool user.
class Kernels {
 public:
  explicit Kernels(ThreadPool& pool);

  // y[t][row] = W x[t] for every token t: x and y are arrays of pointers to rows.
  void multiply(const WeightView& w, std::span<const float* const> x, std::span<float* const> y);

  // h[t] = silu(gate x[t]) * (up x[t]): both matrices have the same shape.
  void gated_multiply(const WeightView& gate, const WeightView& up, std::span<const float* const> x,
                      std::span<float* const> h);

  // One row product on the calling thread, for small matrices.
  static void multiply_serial(const WeightView& w, const float* x, float* y);

 private:
  ThreadPool& pool_;
  std::vector<std::vector<float>> scratch_;  // by thread
};

}  // namespace expertscope
