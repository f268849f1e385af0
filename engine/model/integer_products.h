// Products of quantised matrices with one row of activations in integers, for experts on the CPU beside a GPU: weights
// as the file has them, activations rounded to 14 bits and a sign with a scale for each 256 of them, sums in 32 bits.
// The rounding of activations (2^-15 of the largest of 256) is all that is lost. Compiled for AVX2 and AVX-512, the
// better one is taken when the program runs: results depend on the CPU, which is why emulated machines do not use it.
//
// Measured on an EPYC core with AVX2, one token, bytes in a cache, beside the float kernels (kernels.h): Q4_K 7.2
// and 6.4 GB/s, Q6_K 9.2 and 8.6, Q8_0 21.7 and 14.0. With AVX-512, which has twice the lanes, it was not measured by
// itself.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/model/weight_matrix.h"

namespace expertscope {

struct IntegerRow {
  std::vector<std::int16_t> values;  // padded with zeros to a multiple of 256
  std::vector<float> scales;         // of each 256
  std::vector<float> sums;           // of each 32, scaled: what a block's minima are multiplied with
};

// True for the types that there are products for: those with quantised weights.
bool has_integer_products(TensorType);

void to_integers(const float* x, int n, IntegerRow&);

// y[row] for rows [begin, end) of W x. Any thread.
void multiply_integers(const WeightView& w, int begin, int end, const IntegerRow& x, float* y);

}  // namespace expertscope
