// All experts of a model in a precision below the file's, made once from it. int8 is Q8_0 and int4 is Q4_0, as ggml
// quantises them; int2 has the four levels -3, -1, 1, 3 halves of a step for each 32 weights, kept in the layout of
// Q4_0, so that one set of kernels runs all of them.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "engine/ids.h"
#include "engine/model/model.h"

namespace expertscope {

class ExpertVersions {
 public:
  ExpertVersions(const Model&, Precision below_native);

  const ExpertBlobLayout& layout(int layer) const { return layouts_[static_cast<std::size_t>(layer)]; }
  std::span<const std::byte> blob(ExpertId) const;
  // All blobs: one piece of memory, which a machine may page-lock.
  std::span<const std::byte> store() const { return blobs_.span(); }

 private:
  void make(const Model&, Precision, ExpertId);

  int experts_;
  std::int64_t pitch_ = 0;  // bytes from blob to blob
  std::vector<ExpertBlobLayout> layouts_;
  AlignedBytes blobs_;
};

// How a blob of the model's own precision is laid out in another one.
ExpertBlobLayout layout_in(Precision below_native, const ExpertBlobLayout& native);

// Quantises `count` values, a multiple of 32, into the planes of Q8_0 (int8) or Q4_0 (int4, int2).
void quantise(Precision, const float* values, std::int64_t count, std::byte* quants, std::byte* scales);

}  // namespace expertscope
