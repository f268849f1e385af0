// Experts of a model in a precision below the file's, made once from it. int8 is Q8_0 and int4 is Q4_0, as ggml
// quantises them; int2 has the four levels -3, -1, 1, 3 halves of a step for each 32 weights, kept in the layout of
// Q4_0, so that one set of kernels runs all of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/ids.h"
#include "engine/model/model.h"

namespace expertscope {

// Where the blobs of all experts lie in a lower precision, one after the other: in memory or in a file.
class VersionPlaces {
 public:
  VersionPlaces(const ModelDescription&, Precision below_native);

  const ExpertBlobLayout& layout(int layer) const { return layouts_[static_cast<std::size_t>(layer)]; }
  int count() const { return static_cast<int>(layouts_.size()) * experts_; }
  ExpertId expert(int i) const {  // i in [0, count())
    return {static_cast<std::uint16_t>(i / experts_), static_cast<std::uint16_t>(i % experts_)};
  }
  std::int64_t offset(ExpertId id) const { return (std::int64_t{id.layer} * experts_ + id.expert) * pitch_; }
  std::int64_t bytes() const { return count() * pitch_; }

 private:
  int experts_;
  std::int64_t pitch_ = 0;  // bytes from blob to blob
  std::vector<ExpertBlobLayout> layouts_;
};

class ExpertVersions {
 public:
  ExpertVersions(const Model&, Precision below_native);  // whose experts are in memory

  const ExpertBlobLayout& layout(int layer) const { return places_.layout(layer); }
  std::span<const std::byte> blob(ExpertId id) const {
    return {blobs_.data() + places_.offset(id), static_cast<std::size_t>(layout(id.layer).bytes)};
  }
  // All blobs: one piece of memory, which a machine may page-lock.
  std::span<const std::byte> store() const { return blobs_.span(); }

 private:
  VersionPlaces places_;
  AlignedBytes blobs_;
};

// How a blob of the model's own precision is laid out in another one.
ExpertBlobLayout layout_in(Precision below_native, const ExpertBlobLayout& native);

// One expert in another precision: `blob`, laid out as `native`, becomes `version`, laid out as `layout`.
void make_version(Precision, const ExpertBlobLayout& native, const std::byte* blob, const ExpertBlobLayout& layout,
                  std::byte* version);

// Quantises `count` values, a multiple of 32, into the planes of Q8_0 (int8) or Q4_0 (int4, int2).
void quantise(Precision, const float* values, std::int64_t count, std::byte* quants, std::byte* scales);

}  // namespace expertscope
