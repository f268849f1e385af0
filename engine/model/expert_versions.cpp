#include "engine/model/expert_versions.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <thread>

#include <immintrin.h>

#include "engine/assert.h"
#include "engine/model/kernels.h"
#include "engine/model/thread_pool.h"

namespace expertscope {
namespace {

constexpr int kBlock = 32;

std::uint16_t to_half(float v) {
  return static_cast<std::uint16_t>(_cvtss_sh(v, _MM_FROUND_TO_NEAREST_INT));
}

TensorType type_of(Precision p) {
  return p == Precision::int8 ? TensorType::q8_0 : TensorType::q4_0;
}

// ggml's Q8_0: the largest magnitude becomes 127.
float quantise_int8(const float* x, std::byte* quants) {
  float most = 0;
  for (int i = 0; i < kBlock; ++i) most = std::max(most, std::fabs(x[i]));
  const float d = most / 127;
  for (int i = 0; i < kBlock; ++i) {
    quants[i] = static_cast<std::byte>(static_cast<std::int8_t>(d > 0 ? std::nearbyint(x[i] / d) : 0.0f));
  }
  return d;
}

using Levels = std::array<int, kBlock>;  // 0 to 15, of value (level - 8) * d

// ggml's Q4_0: the value of largest magnitude becomes -8.
float levels_of_int4(const float* x, Levels& levels) {
  float extreme = 0;
  for (int i = 0; i < kBlock; ++i) {
    if (std::fabs(x[i]) > std::fabs(extreme)) extreme = x[i];
  }
  const float d = extreme / -8;
  for (int i = 0; i < kBlock; ++i)
    levels[static_cast<std::size_t>(i)] = d != 0 ? std::clamp(static_cast<int>(std::floor(x[i] / d + 8.5f)), 0, 15) : 8;
  return d;
}

// Four levels around zero; the step that leaves the least squared error, found by turns of rounding and fitting.
float levels_of_int2(const float* x, Levels& levels) {
  float most = 0;
  for (int i = 0; i < kBlock; ++i) most = std::max(most, std::fabs(x[i]));
  float half_step = most / 3;
  for (int round = 0; round < 4; ++round) {
    float dot = 0, squares = 0;
    for (int i = 0; i < kBlock; ++i) {
      const int odd = std::fabs(x[i]) > 2 * half_step ? 3 : 1;
      const int level = x[i] < 0 ? -odd : odd;
      levels[static_cast<std::size_t>(i)] = 8 + level;
      dot += x[i] * static_cast<float>(level);
      squares += static_cast<float>(level * level);
    }
    half_step = dot / squares;
  }
  return half_step;
}

void pack_levels(const Levels& levels, std::byte* quants) {
  for (std::size_t i = 0; i < kBlock / 2; ++i)
    quants[i] = static_cast<std::byte>(levels[i] | levels[i + kBlock / 2] << 4);
}

}  // namespace

ExpertBlobLayout layout_in(Precision precision, const ExpertBlobLayout& native) {
  ExpertBlobLayout layout;
  const auto place = [&](const ExpertMatrix& from) {
    const std::int64_t values = std::int64_t{from.rows} * from.cols;
    ExpertMatrix m{.type = type_of(precision), .rows = from.rows, .cols = from.cols, .quants_offset = layout.bytes};
    layout.bytes += quants_bytes(m.type, values);
    m.scales_offset = layout.bytes;
    layout.bytes += scales_bytes(m.type, values);
    return m;
  };
  layout.gate = place(native.gate);
  layout.up = place(native.up);
  layout.down = place(native.down);
  return layout;
}

void quantise(Precision precision, const float* values, std::int64_t count, std::byte* quants, std::byte* scales) {
  ES_ASSERT(precision != Precision::native && count % kBlock == 0, "whole blocks of a lower precision");
  const std::int64_t block_bytes = quants_bytes(type_of(precision), kBlock);
  for (std::int64_t b = 0; b < count / kBlock; ++b) {
    const float* x = values + b * kBlock;
    std::byte* q = quants + b * block_bytes;
    Levels levels;
    float d = 0;
    if (precision == Precision::int8) {
      d = quantise_int8(x, q);
    } else {
      d = precision == Precision::int4 ? levels_of_int4(x, levels) : levels_of_int2(x, levels);
      pack_levels(levels, q);
    }
    const std::uint16_t half = to_half(d);
    std::memcpy(scales + b * 2, &half, 2);
  }
}

void make_version(Precision precision, const ExpertBlobLayout& native, const std::byte* blob,
                  const ExpertBlobLayout& layout, std::byte* version) {
  std::vector<float> row;
  const auto convert = [&](const ExpertMatrix& source, const ExpertMatrix& target) {
    const WeightView view = matrix_in_blob(source, blob);
    row.resize(static_cast<std::size_t>(source.cols));
    for (int r = 0; r < source.rows; ++r) {
      dequantise_row(view, r, row.data());
      const std::int64_t first = std::int64_t{r} * source.cols;
      quantise(precision, row.data(), source.cols, version + target.quants_offset + quants_bytes(target.type, first),
               version + target.scales_offset + scales_bytes(target.type, first));
    }
  };
  convert(native.gate, layout.gate);
  convert(native.up, layout.up);
  convert(native.down, layout.down);
}

VersionPlaces::VersionPlaces(const ModelDescription& d, Precision precision) : experts_(d.router.experts) {
  for (const ExpertBlobLayout& native : d.expert_blob) {
    layouts_.push_back(layout_in(precision, native));
    pitch_ = std::max(pitch_, (layouts_.back().bytes + 63) / 64 * 64);
  }
}

ExpertVersions::ExpertVersions(const Model& model, Precision precision)
    : places_(model.description(), precision), blobs_(places_.bytes()) {
  ThreadPool pool(static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
  pool.parallel_for(places_.count(), [&](int i, int) {
    const ExpertId id = places_.expert(i);
    make_version(precision, model.blob_layout(id.layer), model.expert_blob(id).data(), layout(id.layer),
                 blobs_.data() + places_.offset(id));
  });
}

}  // namespace expertscope
