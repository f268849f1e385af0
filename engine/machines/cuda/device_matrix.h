// A matrix of weights in device memory: the planes of WeightView, at device addresses.
#pragma once

#include <cstdint>

#include "engine/model/tensor_type.h"

namespace expertscope::cuda {

struct DeviceMatrix {
  const std::uint8_t* quants = nullptr;  // 16-byte aligned
  const std::uint8_t* scales = nullptr;
  std::int32_t rows = 0, cols = 0;
  TensorType type = TensorType::f32;
};

}  // namespace expertscope::cuda
