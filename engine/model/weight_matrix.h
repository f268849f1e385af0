// A matrix of weights as the kernels read it: a plane of quants (the values themselves when the type is not quantised)
// and, for types whose blocks in the file are not a multiple of 16 bytes, a plane of float16 scales.
//
// Why planes and not the file's blocks: a Q8_0 block is 34 bytes, so in the file's order nearly no block is aligned, a
// GPU cannot load it in 16-byte words, and the CPU has to fetch and widen each scale on its own. See kernels.cpp for
// what was measured. Blocks of Q4_K (144 bytes) and Q5_K (176) stay as they are; Q6_K (210) gives up the scale at its
// end. The bytes are the same in number, only their order differs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>

#include "engine/model/tensor_type.h"

namespace expertscope {

// Bytes on a 64-byte boundary (large ones in huge pages), not initialised. Throws std::bad_alloc.
class AlignedBytes {
 public:
  static constexpr std::int64_t kAlignment = 64;

  AlignedBytes() = default;
  explicit AlignedBytes(std::int64_t bytes);
  std::byte* data() { return bytes_.get(); }
  const std::byte* data() const { return bytes_.get(); }
  std::int64_t size() const { return size_; }
  std::span<std::byte> span() { return {bytes_.get(), static_cast<std::size_t>(size_)}; }
  std::span<const std::byte> span() const { return {bytes_.get(), static_cast<std::size_t>(size_)}; }

 private:
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  std::unique_ptr<std::byte[], Free> bytes_;
  std::int64_t size_ = 0;
};

// Row-major, rows × cols; y = W x takes x[cols] to y[rows]. Does not own its bytes.
struct WeightView {
  TensorType type = TensorType::f32;
  int rows = 0, cols = 0;             // cols is a multiple of 32 and of block_values(type)
  const std::byte* quants = nullptr;  // a multiple of 16 bytes from the start of an expert's blob or a WeightMatrix
  const std::byte* scales = nullptr;  // float16, one per block; null when the type has no plane of scales
};

// Bytes of the two planes of `values` weights. Multiples of 64 for experts, whose rows and columns are multiples of 32.
constexpr std::int64_t quants_bytes(TensorType type, std::int64_t values) {
  return values / block_values(type) * layout_of(type).quants_bytes;
}
constexpr std::int64_t scales_bytes(TensorType type, std::int64_t values) {
  return values / block_values(type) * layout_of(type).scales_bytes;
}

// Splits blocks in the file's order into planes. `file` holds tensor_bytes(type, values), the planes what the functions
// above say; `scales` is not touched when the type has none.
void split_into_planes(TensorType type, std::int64_t values, const std::byte* file, std::byte* quants,
                       std::byte* scales);

// A matrix that owns its planes.
class WeightMatrix {
 public:
  WeightMatrix() = default;
  WeightMatrix(TensorType type, int rows, int cols);  // planes are not initialised
  WeightMatrix(TensorType type, int rows, int cols, std::span<const std::byte> file_bytes);
  const WeightView& view() const { return view_; }
  std::byte* quants() { return storage_.data(); }
  std::byte* scales();  // null when the type has no plane of scales
  std::int64_t bytes() const { return storage_.size(); }

 private:
  AlignedBytes storage_;
  WeightView view_;
};

}  // namespace expertscope
