#include "engine/model/weight_matrix.h"

#include <cstring>
#include <new>

#include <sys/mman.h>

#include "engine/assert.h"

namespace expertscope {

AlignedBytes::AlignedBytes(std::int64_t bytes) : size_(bytes) {
  constexpr std::size_t kHugePage = 2 * 1024 * 1024;
  const std::size_t alignment = static_cast<std::size_t>(bytes) >= kHugePage ? kHugePage : kAlignment;
  const std::size_t rounded = (static_cast<std::size_t>(bytes) + alignment - 1) / alignment * alignment;
  if (rounded == 0) return;
  bytes_.reset(static_cast<std::byte*>(std::aligned_alloc(alignment, rounded)));
  if (!bytes_) throw std::bad_alloc();
  // A token touches a few rows here and there of much memory, which exhausts the TLB with small pages. Only a wish.
  if (alignment == kHugePage) ::madvise(bytes_.get(), rounded, MADV_HUGEPAGE);
}

void split_into_planes(TensorType type, std::int64_t values, const std::byte* file, std::byte* quants,
                       std::byte* scales) {
  if (!has_scales_plane(type)) {
    std::memcpy(quants, file, static_cast<std::size_t>(tensor_bytes(type, values)));
    return;
  }
  const TensorTypeLayout layout = layout_of(type);
  const auto quant_bytes = static_cast<std::size_t>(layout.quants_bytes);
  const bool scale_last = type == TensorType::q6_k;
  const std::size_t scale_at = scale_last ? quant_bytes : 0, quants_at = scale_last ? 0 : 2;
  for (std::int64_t block = 0; block < values / layout.block_values; ++block) {
    std::memcpy(scales, file + scale_at, 2);
    std::memcpy(quants, file + quants_at, quant_bytes);
    scales += 2;
    quants += quant_bytes;
    file += layout.block_bytes;
  }
}

WeightMatrix::WeightMatrix(TensorType type, int rows, int cols)
    : storage_(tensor_bytes(type, std::int64_t{rows} * cols)), view_{type, rows, cols, storage_.data(), nullptr} {
  view_.scales = scales();
}

WeightMatrix::WeightMatrix(TensorType type, int rows, int cols, std::span<const std::byte> file_bytes)
    : WeightMatrix(type, rows, cols) {
  ES_ASSERT(storage_.size() == std::ssize(file_bytes), "bytes of the whole matrix");
  split_into_planes(type, std::int64_t{rows} * cols, file_bytes.data(), quants(), scales());
}

std::byte* WeightMatrix::scales() {
  if (!has_scales_plane(view_.type)) return nullptr;
  return storage_.data() + quants_bytes(view_.type, std::int64_t{view_.rows} * view_.cols);
}

}  // namespace expertscope
