#include "engine/model/kernels.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "engine/assert.h"
#include "engine/model/k_quants.h"
#include "engine/model/simd.h"

namespace expertscope {

using simd::kLanes;
using simd::load;
using simd::set;
using simd::store;
using simd::Vec;
namespace hn = simd::hn;

namespace {

constexpr int kBlockVectors = kQuantBlock / kLanes;  // a block of 32 columns is four vectors
constexpr int kScaleGroup = 8;                       // scales are widened eight at a time
constexpr int kRowTile = 4;                          // rows that share the loads of a token's vectors
constexpr int kTokenTile = 3;  // 4 x 3 accumulators, 3 token vectors and a weight fill 16 registers

const hn::FixedTag<std::int32_t, 8> kInts;
const hn::FixedTag<std::int8_t, 8> kBytes;

Vec widen_halves(const std::byte* p) {
  const hn::FixedTag<hwy::float16_t, 8> halves;
  return hn::PromoteTo(simd::Floats(), hn::LoadU(halves, reinterpret_cast<const hwy::float16_t*>(p)));
}

HWY_INLINE Vec widen_bytes(hn::Vec<hn::FixedTag<std::int8_t, 8>> bytes) {
  return hn::ConvertTo(simd::Floats(), hn::PromoteTo(kInts, bytes));
}

// Vector `i` of the four of a block, multiplied out. `scale` is ignored by types that have none.
template <TensorType Type>
HWY_INLINE Vec unpack(const std::byte* p, int i, Vec scale) {
  if constexpr (Type == TensorType::f32) {
    return load(reinterpret_cast<const float*>(p) + i * kLanes);
  } else if constexpr (Type == TensorType::f16) {
    return widen_halves(p + i * kLanes * 2);
  } else if constexpr (Type == TensorType::bf16) {
    const hn::FixedTag<std::uint16_t, 8> halves;
    const hn::FixedTag<std::uint32_t, 8> words;
    const auto bits = hn::LoadU(halves, reinterpret_cast<const std::uint16_t*>(p) + i * kLanes);
    return hn::BitCast(simd::Floats(), hn::ShiftLeft<16>(hn::PromoteTo(words, bits)));
  } else if constexpr (Type == TensorType::q8_0) {
    return hn::Mul(widen_bytes(hn::LoadU(kBytes, reinterpret_cast<const std::int8_t*>(p) + i * kLanes)), scale);
  } else {  // q4_0: low nibbles are values 0 to 15, high nibbles 16 to 31
    const hn::FixedTag<std::uint8_t, 8> raw;
    const hn::FixedTag<std::uint16_t, 4> pairs;
    auto nibbles = hn::LoadU(raw, reinterpret_cast<const std::uint8_t*>(p) + i % 2 * kLanes);
    if (i >= 2) nibbles = hn::BitCast(raw, hn::ShiftRight<4>(hn::BitCast(pairs, nibbles)));
    nibbles = hn::And(nibbles, hn::Set(raw, 15));
    return hn::Mul(widen_bytes(hn::Sub(hn::BitCast(kBytes, nibbles), hn::Set(kBytes, 8))), scale);
  }
}

// Bytes that 32 weights take in the plane of quants.
template <TensorType Type>
constexpr std::ptrdiff_t block_stride() {
  return static_cast<std::ptrdiff_t>(quants_bytes(Type, kQuantBlock));
}

// Widens `count` (at most 8) scales.
HWY_INLINE void widen_scales(const std::byte* p, int count, float* out) {
  if (count == kScaleGroup) {
    store(widen_halves(p), out);
    return;
  }
  alignas(16) std::byte padded[kScaleGroup * 2] = {};
  std::memcpy(padded, p, static_cast<std::size_t>(count) * 2);
  store(widen_halves(padded), out);
}

template <TensorType Type>
const std::byte* quants_of_row(const WeightView& w, int row) {
  return w.quants + static_cast<std::ptrdiff_t>(row) * quants_bytes(Type, w.cols);
}
template <TensorType Type>
const std::byte* scales_of_row(const WeightView& w, int row) {
  return w.scales + static_cast<std::ptrdiff_t>(row) * scales_bytes(Type, w.cols);
}

// Where block number `block` of a row lies in the two planes, for types with blocks of 256 values.
template <TensorType Type>
const std::byte* k_block(const WeightView& w, int row, int block) {
  return quants_of_row<Type>(w, row) + quants_bytes(Type, block * kKBlock);
}
template <TensorType Type>
const std::byte* k_scale(const WeightView& w, int row, int block) {
  return has_scales_plane(Type) ? scales_of_row<Type>(w, row) + scales_bytes(Type, block * kKBlock) : nullptr;
}

template <TensorType Type>
void dequantise_k_blocks(const WeightView& w, int row, float* out) {
  KBlock parts;
  for (int block = 0; block < w.cols / kKBlock; ++block, out += kKBlock) {
    unpack_k_block<Type>(k_block<Type>(w, row, block), k_scale<Type>(w, row, block), parts);
    for (int step = 0; step < kKBlock / kKStep; ++step) {
      for (int i = 0; i < kKStep / kLanes; ++i) store(k_values<Type>(parts, step, i), out + step * kKStep + i * kLanes);
    }
  }
}

template <TensorType Type>
void dequantise(const WeightView& w, int row, float* out) {
  if constexpr (is_k_quant(Type)) return dequantise_k_blocks<Type>(w, row, out);
  const std::byte* p = quants_of_row<Type>(w, row);
  const int blocks = w.cols / kQuantBlock;
  float scales[kScaleGroup] = {};
  for (int block = 0; block < blocks; ++block, p += block_stride<Type>(), out += kQuantBlock) {
    if (is_quantised(Type) && block % kScaleGroup == 0) {
      widen_scales(scales_of_row<Type>(w, row) + block * 2, std::min(kScaleGroup, blocks - block), scales);
    }
    const Vec scale = set(scales[block % kScaleGroup]);
    for (int i = 0; i < kBlockVectors; ++i) store(unpack<Type>(p, i, scale), out + i * kLanes);
  }
}

template <int Rows>
HWY_INLINE void store_sums(const Vec (&sums)[Rows], float* y) {
  if constexpr (Rows % 4 == 0) {
    for (int r = 0; r < Rows; r += 4) {
      hn::StoreU(simd::sum4(sums[r], sums[r + 1], sums[r + 2], sums[r + 3]), simd::Quad(), y + r);
    }
  } else {
    for (int r = 0; r < Rows; ++r) y[r] = simd::sum(sums[r]);
  }
}

// Rows [row, row + Rows) times a few tokens, where blocks have 256 values: each is taken apart once and meets all
// tokens.
//
// Measured on an EPYC 9xx4 core at one token, bytes in a cache: Q4_K 8.5, Q5_K 9.2, Q6_K 11.3 GB/s. Sums of quant * x
// for each 32 values, scaled afterwards, would give Q4_K another 15 %, but not the results of the dequantised matrix.
template <TensorType Type, int Rows, int Tokens>
void k_rows_times_few(const WeightView& w, int row, const float* const* x, float* const* y) {
  Vec sums[Tokens][Rows];
  for (auto& token : sums) {
    for (Vec& s : token) s = set(0);
  }
  const float* tokens[Tokens];
  for (int t = 0; t < Tokens; ++t) tokens[t] = x[t];
  const std::ptrdiff_t next_rows = Rows * quants_bytes(Type, w.cols);  // see rows_times_few
  KBlock parts[Rows];
  for (int block = 0; block < w.cols / kKBlock; ++block) {
    for (int r = 0; r < Rows; ++r) {
      const std::byte* quants = k_block<Type>(w, row + r, block);
      unpack_k_block<Type>(quants, k_scale<Type>(w, row + r, block), parts[r]);
      if (Tokens > 1) continue;
      for (int line = 0; line < layout_of(Type).quants_bytes; line += 64) __builtin_prefetch(quants + next_rows + line);
    }
    for (int step = 0; step < kKBlock / kKStep; ++step) {
      const int col = block * kKBlock + step * kKStep;
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 8
        for (int i = 0; i < kKStep / kLanes; ++i) {
          const Vec weights = k_values<Type>(parts[r], step, i);
          for (int t = 0; t < Tokens; ++t) {
            sums[t][r] = hn::MulAdd(weights, load(tokens[t] + col + i * kLanes), sums[t][r]);
          }
        }
      }
    }
  }
  for (int t = 0; t < Tokens; ++t) store_sums(sums[t], y[t] + row);
}

// Rows [row, row + Rows) times a few tokens, weights multiplied out on the way.
//
// Measured on an EPYC 9xx4 core for Q8_0, 256 columns, one token: 19.4 G weights/s from planes with eight rows at a
// time, 17.6 to 18.1 from the file's 34-byte blocks (four or eight rows), 16 to 18 from planes with scales widened one
// by one.
template <TensorType Type, int Rows, int Tokens>
void rows_times_few(const WeightView& w, int row, const float* const* x, float* const* y) {
  if constexpr (is_k_quant(Type)) return k_rows_times_few<Type, Rows, Tokens>(w, row, x, y);
  const int blocks = w.cols / kQuantBlock;
  const std::byte* quants[Rows];
  const std::byte* scales[Rows];
  Vec sums[Tokens][Rows];
  for (int r = 0; r < Rows; ++r) {
    quants[r] = quants_of_row<Type>(w, row + r);
    scales[r] = is_quantised(Type) ? scales_of_row<Type>(w, row + r) : nullptr;
    for (int t = 0; t < Tokens; ++t) sums[t][r] = set(0);
  }
  const float* tokens[Tokens];
  for (int t = 0; t < Tokens; ++t) tokens[t] = x[t];
  // The same place in the rows that come next. At the end of the matrix that is what follows it in the blob, often the
  // next matrix; prefetching cannot fault. Without it decode waits for memory (1,100 tokens/s instead of 1,350).
  [[maybe_unused]] const std::ptrdiff_t next_rows = Rows * blocks * block_stride<Type>();
  alignas(32) float wide[Rows][kScaleGroup];
  for (int group = 0; group < blocks; group += kScaleGroup) {
    const int end = std::min(group + kScaleGroup, blocks);
    if constexpr (is_quantised(Type)) {
      for (int r = 0; r < Rows; ++r) widen_scales(scales[r] + group * 2, end - group, wide[r]);
    }
    for (int block = group; block < end; ++block) {
      Vec values[Tokens][kBlockVectors];
      for (int t = 0; t < Tokens; ++t) {
        for (int i = 0; i < kBlockVectors; ++i) values[t][i] = load(tokens[t] + block * kQuantBlock + i * kLanes);
      }
#pragma GCC unroll 8  // else GCC keeps the sums in memory
      for (int r = 0; r < Rows; ++r) {
        if (Tokens == 1) __builtin_prefetch(quants[r] + next_rows + block * block_stride<Type>());
        const Vec scale = is_quantised(Type) ? set(wide[r][block - group]) : set(0);
        for (int i = 0; i < kBlockVectors; ++i) {
          const Vec weights = unpack<Type>(quants[r] + block * block_stride<Type>(), i, scale);
          for (int t = 0; t < Tokens; ++t) sums[t][r] = hn::MulAdd(weights, values[t][i], sums[t][r]);
        }
      }
    }
  }
  for (int t = 0; t < Tokens; ++t) store_sums(sums[t], y[t] + row);
}

template <TensorType Type, int Rows, int Tokens>
void range_times_few(const WeightView& w, int begin, int end, const float* const* x, float* const* y) {
  int row = begin;
  for (; row + Rows <= end; row += Rows) rows_times_few<Type, Rows, Tokens>(w, row, x, y);
  for (; row < end; ++row) rows_times_few<Type, 1, Tokens>(w, row, x, y);
}

// kRowTile multiplied-out rows (one after the other in `rows`) times Tokens tokens.
template <int Tokens>
void tile(const float* rows, int cols, const float* const* x, float* const* y, int row) {
  Vec sums[Tokens][kRowTile];
  for (auto& token : sums) {
    for (Vec& s : token) s = set(0);
  }
  for (int i = 0; i < cols; i += kLanes) {
    Vec values[Tokens];
    for (int t = 0; t < Tokens; ++t) values[t] = load(x[t] + i);
    for (int r = 0; r < kRowTile; ++r) {
      const Vec weight = load(rows + static_cast<std::ptrdiff_t>(r) * cols + i);
      for (int t = 0; t < Tokens; ++t) sums[t][r] = hn::MulAdd(weight, values[t], sums[t][r]);
    }
  }
  for (int t = 0; t < Tokens; ++t) store_sums(sums[t], y[t] + row);
}

// Rows [begin, end) times all tokens: four rows are multiplied out once and then meet every token.
template <TensorType Type>
void range_times_many(const WeightView& w, int begin, int end, std::span<const float* const> x,
                      std::span<float* const> y, float* rows) {
  const int tokens = static_cast<int>(x.size());
  int row = begin;
  for (; row + kRowTile <= end; row += kRowTile) {
    for (int r = 0; r < kRowTile; ++r) dequantise<Type>(w, row + r, rows + static_cast<std::ptrdiff_t>(r) * w.cols);
    int t = 0;
    for (; t + kTokenTile <= tokens; t += kTokenTile) tile<kTokenTile>(rows, w.cols, &x[t], &y[t], row);
    if (tokens - t == 2) tile<2>(rows, w.cols, &x[t], &y[t], row);
    if (tokens - t == 1) tile<1>(rows, w.cols, &x[t], &y[t], row);
  }
  for (; row < end; ++row) {
    for (int t = 0; t < tokens; ++t) rows_times_few<Type, 1, 1>(w, row, &x[t], &y[t]);
  }
}

// The items of a loop that belong to one product.
struct Piece {
  int first_item, rows;
};

// Calls `call` with the type as a template argument.
template <typename Call>
void with_type(TensorType type, Call&& call) {
  switch (type) {
    case TensorType::f32:
      return call.template operator()<TensorType::f32>();
    case TensorType::f16:
      return call.template operator()<TensorType::f16>();
    case TensorType::bf16:
      return call.template operator()<TensorType::bf16>();
    case TensorType::q8_0:
      return call.template operator()<TensorType::q8_0>();
    case TensorType::q4_0:
      return call.template operator()<TensorType::q4_0>();
    case TensorType::q4_k:
      return call.template operator()<TensorType::q4_k>();
    case TensorType::q5_k:
      return call.template operator()<TensorType::q5_k>();
    case TensorType::q6_k:
      return call.template operator()<TensorType::q6_k>();
  }
}

// Rows of the ranges that threads take: enough ranges to balance, each large enough to be worth handing out.
int rows_per_range(const WeightView& w, int tokens, int threads) {
  constexpr std::int64_t kLeastProducts = 16 * 1024;
  const std::int64_t per_row = std::int64_t{w.cols} * tokens;
  const std::int64_t for_balance = (w.rows + threads * 4 - 1) / (threads * 4);
  const std::int64_t for_size = (kLeastProducts + per_row - 1) / per_row;
  const std::int64_t rows = std::max(for_balance, for_size);
  return static_cast<int>(std::min<std::int64_t>((rows + 7) / 8 * 8, (w.rows + 7) / 8 * 8));
}

void multiply_range(const WeightView& w, int begin, int end, std::span<const float* const> x, std::span<float* const> y,
                    std::vector<float>& scratch) {
  with_type(w.type, [&]<TensorType Type>() {
    switch (x.size()) {
      case 1:
        return range_times_few<Type, 8, 1>(w, begin, end, x.data(), y.data());
      case 2:
        return range_times_few<Type, 4, 2>(w, begin, end, x.data(), y.data());
      case 3:
        return range_times_few<Type, 4, 3>(w, begin, end, x.data(), y.data());
      default:
        break;
    }
    scratch.resize(std::max(scratch.size(), static_cast<std::size_t>(kRowTile) * static_cast<std::size_t>(w.cols)));
    range_times_many<Type>(w, begin, end, x, y, scratch.data());
  });
}

}  // namespace

void silu_multiply(const float* up, int n, float* h) {
  const Vec one = set(1);
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Vec g = load(h + i);
    const Vec silu = hn::Div(g, hn::Add(one, simd::exp(hn::Neg(g))));
    store(hn::Mul(silu, load(up + i)), h + i);
  }
  if (i < n) {
    alignas(32) float g[kLanes] = {}, u[kLanes] = {};
    std::copy(h + i, h + n, g);
    std::copy(up + i, up + n, u);
    silu_multiply(u, kLanes, g);
    std::copy(g, g + (n - i), h + i);
  }
}

void dequantise_row(const WeightView& w, int row, float* out) {
  with_type(w.type, [&]<TensorType Type>() { dequantise<Type>(w, row, out); });
}

Kernels::Kernels(ThreadPool& pool) : pool_(pool), scratch_(static_cast<std::size_t>(pool.threads())) {}

void Kernels::multiply(const WeightView& w, std::span<const float* const> x, std::span<float* const> y) {
  const Product product{w, x, y};
  multiply(std::span(&product, 1));
}

template <typename Body>
void Kernels::for_ranges(std::span<const Product> products, Body body) {
  int total = 0;
  std::array<Piece, Kernels::kMostProducts> pieces;
  ES_ASSERT(products.size() <= pieces.size(), "a few products at a time");
  for (std::size_t i = 0; i < products.size(); ++i) {
    const int rows = rows_per_range(products[i].w, static_cast<int>(products[i].x.size()), pool_.threads());
    pieces[i] = {total, rows};
    total += (products[i].w.rows + rows - 1) / rows;
  }
  pool_.parallel_for(total, [&](int item, int thread) {
    std::size_t i = products.size() - 1;
    while (pieces[i].first_item > item) --i;
    const int begin = (item - pieces[i].first_item) * pieces[i].rows;
    body(i, begin, std::min(products[i].w.rows, begin + pieces[i].rows), thread);
  });
}

void Kernels::multiply(std::span<const Product> products) {
  const std::size_t tokens = products[0].x.size();
  if (tokens == 0) return;
  for (const Product& p : products) ES_ASSERT(p.x.size() == tokens && p.y.size() == tokens, "one result per token");
  for_ranges(products, [&](std::size_t i, int begin, int end, int thread) {
    multiply_range(products[i].w, begin, end, products[i].x, products[i].y,
                   scratch_[static_cast<std::size_t>(thread)].rows);
  });
}

void Kernels::multiply_integers(std::span<const Product> products) {
  integers_.resize(std::max(integers_.size(), products.size()));
  std::array<const IntegerRow*, kMostProducts> rows{};
  for (std::size_t i = 0; i < products.size(); ++i) {
    const Product& p = products[i];
    ES_ASSERT(p.x.size() == 1 && p.y.size() == 1, "one token");
    if (!has_integer_products(p.w.type)) continue;
    if (i > 0 && rows[i - 1] != nullptr && p.x[0] == products[i - 1].x[0]) {  // neighbours share it, or nobody does
      rows[i] = rows[i - 1];
      continue;
    }
    to_integers(p.x[0], p.w.cols, integers_[i]);
    rows[i] = &integers_[i];
  }
  for_ranges(products, [&](std::size_t i, int begin, int end, int thread) {
    const Product& p = products[i];
    if (rows[i] != nullptr)
      expertscope::multiply_integers(p.w, begin, end, *rows[i], p.y[0]);
    else
      multiply_range(p.w, begin, end, p.x, p.y, scratch_[static_cast<std::size_t>(thread)].rows);
  });
}

void Kernels::gated_multiply(const WeightView& gate_weights, const WeightView& up, std::span<const float* const> x,
                             std::span<float* const> h) {
  ES_ASSERT(x.size() == h.size() && gate_weights.rows == up.rows && gate_weights.cols == up.cols, "equal shapes");
  if (x.empty()) return;
  const int range = rows_per_range(up, static_cast<int>(x.size()), pool_.threads());
  pool_.parallel_for((up.rows + range - 1) / range, [&](int item, int thread) {
    Scratch& scratch = scratch_[static_cast<std::size_t>(thread)];
    const int begin = item * range, end = std::min(up.rows, begin + range);
    const auto rows = static_cast<std::size_t>(up.rows);
    scratch.up.resize(std::max(scratch.up.size(), rows * x.size()));
    scratch.up_rows.resize(x.size());
    for (std::size_t t = 0; t < x.size(); ++t) scratch.up_rows[t] = scratch.up.data() + t * rows;
    multiply_range(gate_weights, begin, end, x, h, scratch.rows);
    multiply_range(up, begin, end, x, scratch.up_rows, scratch.rows);
    for (std::size_t t = 0; t < x.size(); ++t) silu_multiply(scratch.up_rows[t] + begin, end - begin, h[t] + begin);
  });
}

void Kernels::multiply_serial(const WeightView& w, const float* x, float* y) {
  with_type(w.type, [&]<TensorType Type>() { range_times_few<Type, 8, 1>(w, 0, w.rows, &x, &y); });
}

}  // namespace expertscope
