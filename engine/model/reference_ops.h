// Every kernel once more, plain and slow in float64 with libm, straight from the definitions: what the fast ones are
// tested against. Not used by the engine itself.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "engine/model/model_description.h"
#include "engine/model/tensor_type.h"

namespace expertscope::reference {

// Values of tensor data in the file's order: any number of whole blocks.
std::vector<double> dequantise(TensorType type, std::span<const std::byte> file_bytes);

// y[rows] = W x, W row-major.
std::vector<double> multiply(std::span<const double> w, std::span<const float> x);

std::vector<double> rms_norm(std::span<const float> x, std::span<const float> weight, double eps);
std::vector<double> softmax(std::span<const double> x);
double silu(double x);

// One head, rotated for a position.
std::vector<double> rope(const RopeRule& rule, int position, std::span<const float> head);

// One query head over the cached rows of keys and values.
std::vector<double> attend(std::span<const float> query, std::span<const float> keys, std::span<const float> values);

// down(silu(gate x) * up x)
std::vector<double> expert(std::span<const double> gate, std::span<const double> up, std::span<const double> down,
                           std::span<const float> x);

}  // namespace expertscope::reference
