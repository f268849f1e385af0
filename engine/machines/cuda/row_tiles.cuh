// Products of quantised matrices with one row of activations, for decode: by tensor cores. Device code only.
//
// A warp takes two rows a lane (16 in all) and a unit of 256 columns at a time. Lane 4 g + t multiplies out 64 weights
// of its two rows to float16, and m16n8k16 products add them up in float32. Which column meets which k of the
// instruction is free as long as weights and activations agree, so each lane keeps the columns whose bytes it read: 16
// runs of four. Activations lie in shared memory in the order in which lanes read them, as two float16 that together
// have 22 bits: the second operand has eight columns, even ones get the first and odd ones the second. So the rounding
// of weights to float16 (11 bits) is what is lost against float32.
#pragma once

#include "engine/machines/cuda/device_code.cuh"

namespace expertscope::cuda {

inline constexpr int kTileRows = 16, kUnit = 256;

// Sums of 16 runs of 4 columns: c[0] + c[1] belongs to the lane's first row, c[2] + c[3] to its second.
__device__ __forceinline__ void multiply_tile(float (&c)[4], std::uint32_t a0, std::uint32_t a1, std::uint32_t a2,
                                              std::uint32_t a3, std::uint32_t b0, std::uint32_t b1) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
#else
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a0), "r"(a1), "r"(b0));
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a2), "r"(a3), "r"(b1));
#endif
}

namespace halves {

__device__ __forceinline__ std::uint32_t bits_of(__half2 v) {
  return *reinterpret_cast<const std::uint32_t*>(&v);
}
__device__ __forceinline__ __half2 of_bits(std::uint32_t v) {
  return *reinterpret_cast<const __half2*>(&v);
}
__device__ __forceinline__ __half2 both(float v) {
  return __float2half2_rn(v);
}
// An integer below 1024 in the low bits of 1024.0 reads as 1024 plus it, exactly.
constexpr std::uint32_t k1024 = 0x64006400u;
__device__ __forceinline__ __half2 minus(std::uint32_t with_1024, float less) {
  return __hsub2(of_bits(with_1024), both(less));
}
// The same for integers that stand 16 times too high: (1024 + 16 q) / 16 - less, exact where it is a small integer.
__device__ __forceinline__ __half2 sixteenth_minus(std::uint32_t with_1024, float less) {
  return __hfma2(of_bits(with_1024), both(1.0f / 16), both(-less));
}
__device__ __forceinline__ std::uint32_t word(const uint4& v, int i) {
  return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

}  // namespace halves

// How a lane reads and multiplies out its 64 columns of a unit. Raw is their bytes as they are; Scales what its weights
// share; weights gives run r: columns +0 and +2 in `even`, +1 and +3 in `odd`.
template <TensorType Type>
struct TileDecoder;

// 64 neighbours a lane, t of the four that share a row.
struct TileNeighbours {
  static __device__ __forceinline__ int column_of(int t, int run) { return 64 * t + 4 * run; }
};

// Of types whose blocks of 32 have one scale each: two blocks a lane.
struct TileOfBlocks : TileNeighbours {
  using Scales = __half2[2];
  template <typename Raw>
  static __device__ __forceinline__ void scales(const Raw& raw, int, Scales& s) {
#pragma unroll
    for (int i = 0; i < 2; ++i) s[i] = __half2half2(__ushort_as_half(static_cast<unsigned short>(raw.d[i])));
  }
};

template <>
struct TileDecoder<TensorType::q8_0> : TileOfBlocks {
  struct Raw {
    uint4 v[4];
    std::uint32_t d[2];
  };
  static __device__ __forceinline__ Raw load(const DeviceMatrix& m, int row, int unit, int t) {
    Raw raw = {};
    const std::int64_t first = static_cast<std::int64_t>(row) * (m.cols / kChunk);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int chunk = unit * 8 + 2 * t + i;
      if (chunk * kChunk >= m.cols) break;
      const uint4* p = reinterpret_cast<const uint4*>(m.quants) + (first + chunk) * 2;
      raw.v[2 * i] = bits::load16(p), raw.v[2 * i + 1] = bits::load16(p + 1);
      raw.d[i] = bits::load2(m.scales + (first + chunk) * 2);
    }
    return raw;
  }
  static __device__ __forceinline__ void weights(const Raw& raw, const Scales& s, int run, std::uint32_t& even,
                                                 std::uint32_t& odd) {
    const std::uint32_t word = halves::word(raw.v[run / 4], run % 4) ^ 0x80808080u;  // q + 128
    even = halves::bits_of(__hmul2(halves::minus(__byte_perm(word, 0x64646464u, 0x4240), 1152), s[run / 8]));
    odd = halves::bits_of(__hmul2(halves::minus(__byte_perm(word, 0x64646464u, 0x4341), 1152), s[run / 8]));
  }
};

template <>
struct TileDecoder<TensorType::q4_0> : TileOfBlocks {
  struct Raw {
    uint4 v[2];
    std::uint32_t d[2];
  };
  static __device__ __forceinline__ Raw load(const DeviceMatrix& m, int row, int unit, int t) {
    Raw raw = {};
    const std::int64_t first = static_cast<std::int64_t>(row) * (m.cols / kChunk);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int chunk = unit * 8 + 2 * t + i;
      if (chunk * kChunk >= m.cols) break;
      raw.v[i] = bits::load16(reinterpret_cast<const uint4*>(m.quants) + first + chunk);
      raw.d[i] = bits::load2(m.scales + (first + chunk) * 2);
    }
    return raw;
  }
  static __device__ __forceinline__ void weights(const Raw& raw, const Scales& s, int run, std::uint32_t& even,
                                                 std::uint32_t& odd) {
    const std::uint32_t word = halves::word(raw.v[run / 8], run % 4);
    if (run % 8 < 4) {
      even = halves::bits_of(__hmul2(halves::minus((word & 0x000F000Fu) | halves::k1024, 1032), s[run / 8]));
      odd = halves::bits_of(__hmul2(halves::minus((word >> 8 & 0x000F000Fu) | halves::k1024, 1032), s[run / 8]));
    } else {
      even = halves::bits_of(__hmul2(halves::sixteenth_minus((word & 0x00F000F0u) | halves::k1024, 72), s[run / 8]));
      odd =
          halves::bits_of(__hmul2(halves::sixteenth_minus((word >> 8 & 0x00F000F0u) | halves::k1024, 72), s[run / 8]));
    }
  }
};

// Of the eight groups of 32 of a Q4_K or Q5_K block, lane t has groups 2 t and 2 t + 1: low and high nibbles of 32
// bytes.
struct GroupScales {
  __half2 scale[2], less[2];
  __device__ __forceinline__ void set(const uint4& header, int t) {
    const bits::ScalesAndMins groups = bits::k_scales(header, 2 * t);
#pragma unroll
    for (int i = 0; i < 2; ++i) scale[i] = halves::both(groups.scale[i]), less[i] = halves::both(-groups.min[i]);
  }
};

template <>
struct TileDecoder<TensorType::q4_k> : TileNeighbours {
  struct Raw {
    uint4 header, v[2];
  };
  using Scales = GroupScales;
  static __device__ __forceinline__ Raw load(const DeviceMatrix& m, int row, int unit, int t) {
    const uint4* block =
        reinterpret_cast<const uint4*>(m.quants) + (static_cast<std::int64_t>(row) * (m.cols >> 8) + unit) * 9;
    return {bits::load16(block), {bits::load16(block + 1 + 2 * t), bits::load16(block + 2 + 2 * t)}};
  }
  static __device__ __forceinline__ void scales(const Raw& raw, int t, Scales& s) { s.set(raw.header, t); }
  static __device__ __forceinline__ void weights(const Raw& raw, const Scales& s, int run, std::uint32_t& even,
                                                 std::uint32_t& odd) {
    const std::uint32_t word = halves::word(raw.v[run % 8 / 4], run % 4);
    __half2 q02, q13;
    if (run < 8) {
      q02 = halves::minus((word & 0x000F000Fu) | halves::k1024, 1024);
      q13 = halves::minus((word >> 8 & 0x000F000Fu) | halves::k1024, 1024);
    } else {
      q02 = halves::sixteenth_minus((word & 0x00F000F0u) | halves::k1024, 64);
      q13 = halves::sixteenth_minus((word >> 8 & 0x00F000F0u) | halves::k1024, 64);
    }
    even = halves::bits_of(__hfma2(q02, s.scale[run / 8], s.less[run / 8]));
    odd = halves::bits_of(__hfma2(q13, s.scale[run / 8], s.less[run / 8]));
  }
};

template <>
struct TileDecoder<TensorType::q5_k> : TileNeighbours {
  struct Raw {
    uint4 header, fifth[2], v[2];  // of the fifth bits the lane's, at bits 0 and 1 of each byte
  };
  using Scales = GroupScales;
  static __device__ __forceinline__ Raw load(const DeviceMatrix& m, int row, int unit, int t) {
    const uint4* block =
        reinterpret_cast<const uint4*>(m.quants) + (static_cast<std::int64_t>(row) * (m.cols >> 8) + unit) * 11;
    return {bits::load16(block),
            {bits::load16(block + 1), bits::load16(block + 2)},
            {bits::load16(block + 3 + 2 * t), bits::load16(block + 4 + 2 * t)}};
  }
  static __device__ __forceinline__ void scales(const Raw& raw, int t, Scales& s) { s.set(raw.header, t); }
  static __device__ __forceinline__ void weights(const Raw& raw, const Scales& s, int run, std::uint32_t& even,
                                                 std::uint32_t& odd) {
    const int t = threadIdx.x % 4;
    const std::uint32_t word = halves::word(raw.v[run % 8 / 4], run % 4) >> (run < 8 ? 0 : 4);
    // Bit 2 t of a byte belongs to the low nibble, bit 2 t + 1 to the high one.
    const std::uint32_t top = halves::word(raw.fifth[run % 8 / 4], run % 4) >> (2 * t + (run < 8 ? 0 : 1)) << 4;
    const std::uint32_t q = (word & 0x0F0F0F0Fu) | (top & 0x10101010u);
    even = halves::bits_of(
        __hfma2(halves::minus((q & 0x001F001Fu) | halves::k1024, 1024), s.scale[run / 8], s.less[run / 8]));
    odd = halves::bits_of(
        __hfma2(halves::minus((q >> 8 & 0x001F001Fu) | halves::k1024, 1024), s.scale[run / 8], s.less[run / 8]));
  }
};

// Lane t has half t / 2 of a block, and of each of the half's four quarters the 16 neighbours that share a scale.
template <>
struct TileDecoder<TensorType::q6_k> {
  static __device__ __forceinline__ int column_of(int t, int run) {
    return t / 2 * 128 + run / 4 * 32 + t % 2 * 16 + run % 4 * 4;
  }
  struct Raw {
    uint4 low, next, top;
    uint2 scales;
    std::uint32_t d;
  };
  using Scales = __half2[4];
  static __device__ __forceinline__ Raw load(const DeviceMatrix& m, int row, int unit, int t) {
    const std::int64_t index = static_cast<std::int64_t>(row) * (m.cols >> 8) + unit;
    const std::uint8_t* block = m.quants + index * 208;  // ql[128] qh[64] scales[16]
    const int half = t / 2, part = t % 2;
    return {bits::load16(block + half * 64 + part * 16), bits::load16(block + half * 64 + 32 + part * 16),
            bits::load16(block + 128 + half * 32 + part * 16), bits::load8(block + 192 + half * 8),
            bits::load2(m.scales + index * 2)};
  }
  static __device__ __forceinline__ void scales(const Raw& raw, int t, Scales& s) {
    const float d = bits::as_float(raw.d);
#pragma unroll
    for (int quarter = 0; quarter < 4; ++quarter) {
      const std::uint32_t word = quarter < 2 ? raw.scales.x : raw.scales.y;
      const auto scale = static_cast<std::int8_t>(word >> (16 * (quarter % 2) + 8 * (t % 2)));
      s[quarter] = halves::both(d * static_cast<float>(scale));
    }
  }
  static __device__ __forceinline__ void weights(const Raw& raw, const Scales& s, int run, std::uint32_t& even,
                                                 std::uint32_t& odd) {
    const int quarter = run / 4;
    const std::uint32_t quants = halves::word(quarter % 2 == 0 ? raw.low : raw.next, run % 4) >> (quarter < 2 ? 0 : 4);
    const std::uint32_t top = halves::word(raw.top, run % 4) >> (2 * quarter) << 4;
    const std::uint32_t q = (quants & 0x0F0F0F0Fu) | (top & 0x30303030u);
    even = halves::bits_of(__hmul2(halves::minus((q & 0x003F003Fu) | halves::k1024, 1056), s[quarter]));
    odd = halves::bits_of(__hmul2(halves::minus((q >> 8 & 0x003F003Fu) | halves::k1024, 1056), s[quarter]));
  }
};

// The types that have tiles; others are multiplied by row_streams.cuh.
template <typename D>
inline constexpr bool has_tiles = false;
template <TensorType Type>
inline constexpr bool has_tiles<Decoder<Type>> = Type >= TensorType::q8_0;
template <typename D>
struct TilesOf;
template <TensorType Type>
struct TilesOf<Decoder<Type>> {
  using type = TileDecoder<Type>;
};

// --- activations

inline __host__ __device__ int units_of(int cols) {
  return (cols + kUnit - 1) / kUnit;
}
// Bytes of shared memory that a staged row of so many columns takes.
inline __host__ __device__ int tile_bytes(int cols) {
  return units_of(cols) * kUnit * 4;
}
// Room for what norms multiply before the row's own scale is known: activations are staged as 1/16 of themselves.
inline constexpr float kStaged = 1.0f / 16;

__device__ __forceinline__ std::uint32_t pack(float a, float b) {
  return halves::bits_of(__halves2half2(narrow(a), narrow(b)));
}

// Lays x, times `norm` if there is one, into shared memory. By `count` threads (`thread` is this one's number); squares
// are added up in `parts`, a float for each of the warps. The caller synchronises before stage_scale (row_streams.cuh).
template <typename D>
__device__ __forceinline__ void stage_tile(const float* x, const float* norm, int cols, int thread, int count,
                                           uint4* to, float* parts) {
  float squares = 0;
  for (int i = thread; i < units_of(cols) * 32; i += count) {
    // Two runs of lane t of a unit.
    const int column = i / 32 * kUnit + D::column_of(i % 4, i % 32 / 4 * 2);
    float v[8] = {};
    if (column < cols) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float4 four = fresh4(x + column + 4 * half);
        if (norm != nullptr) {
          const float4 n = *reinterpret_cast<const float4*>(norm + column + 4 * half);
          squares = fmaf(four.x, four.x, fmaf(four.y, four.y, fmaf(four.z, four.z, fmaf(four.w, four.w, squares))));
          four.x *= n.x, four.y *= n.y, four.z *= n.z, four.w *= n.w;
        }
        v[4 * half] = four.x * kStaged, v[4 * half + 1] = four.y * kStaged;
        v[4 * half + 2] = four.z * kStaged, v[4 * half + 3] = four.w * kStaged;
      }
    }
    to[2 * i] = {pack(v[0], v[2]), pack(v[1], v[3]), pack(v[4], v[6]), pack(v[5], v[7])};
#pragma unroll
    for (float& value : v) value -= __half2float(narrow(value));
    to[2 * i + 1] = {pack(v[0], v[2]), pack(v[1], v[3]), pack(v[4], v[6]), pack(v[5], v[7])};
  }
  if (norm == nullptr) return;
  squares = warp_sum(squares);
  if (thread % 32 == 0) parts[thread / 32] = squares;
}

// --- products

// A warp's share of a product: tiles first, first + stride, … below `end`, and of each the units share, share +
// sharers, …. A tile is two rows a lane; row_of(tile, g, which, matrix, row) says which.
template <typename D, typename RowOf>
struct TileStream {
  __device__ __forceinline__ TileStream(RowOf rows, int cols, int share_, int sharers_, int first, int stride_,
                                        int end_)
      : row_of(rows),
        units(units_of(cols)),
        share(share_),
        sharers(sharers_),
        tile(first),
        stride(stride_),
        end(end_),
        ask_tile(first),
        ask_unit(share_) {}

  // The first bytes are on their way. Touches weights alone, so it may come before the wait for the kernel ahead.
  __device__ __forceinline__ void start() { ask(); }

  // The sums of the warp's units of the current tile, for the lane's two rows; on to the next tile. x is what
  // stage_tile laid out.
  __device__ __forceinline__ void next(const uint4* x, float& first, float& second) {
    const int lane = threadIdx.x % 32, t = lane % 4, parity = lane / 4 % 2;
    float c[2][4] = {};
    for (int unit = share; tile < end && unit < units; unit += sharers) {
      const typename D::Raw now[2] = {raw[0], raw[1]};
      ask();
      typename D::Scales scales[2];
      D::scales(now[0], t, scales[0]);
      D::scales(now[1], t, scales[1]);
      const uint4* at = x + unit * 64 + t * 2 + parity;
#pragma unroll
      for (int pair = 0; pair < 8; ++pair) {
        const uint4 b = at[pair * 8];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          std::uint32_t a[4];
          D::weights(now[0], scales[0], 2 * pair + i, a[0], a[2]);
          D::weights(now[1], scales[1], 2 * pair + i, a[1], a[3]);
          multiply_tile(c[i], a[0], a[1], a[2], a[3], i == 0 ? b.x : b.z, i == 0 ? b.y : b.w);
        }
      }
    }
    first = (c[0][0] + c[0][1] + (c[1][0] + c[1][1])) * (1 / kStaged);
    second = (c[0][2] + c[0][3] + (c[1][2] + c[1][3])) * (1 / kStaged);
    tile += stride;
  }
  RowOf row_of;
  int units, share, sharers, tile, stride, end;

 private:
  __device__ __forceinline__ void ask() {
    if (ask_unit >= units) ask_unit = share, ask_tile += stride;
    if (ask_tile >= end || ask_unit >= units) return;
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int which = 0; which < 2; ++which) {
      int row = 0;
      const DeviceMatrix m = row_of(ask_tile, lane / 4, which, row);
      raw[which] = D::load(m, row, ask_unit, lane % 4);
    }
    ask_unit += sharers;
  }
  int ask_tile, ask_unit;
  typename D::Raw raw[2];
};
template <typename D, typename RowOf>
__device__ __forceinline__ TileStream<D, RowOf> tile_stream(RowOf rows, int cols, int share, int sharers, int first,
                                                            int stride, int end) {
  return {rows, cols, share, sharers, first, stride, end};
}

// How many warps share a tile: as many as have a unit.
inline __host__ __device__ int sharers_of(int cols) {
  const int units = units_of(cols);
  return units > 4 ? 8 : units > 2 ? 4 : units;
}

// Runs a block's streams and joins the sharers' sums: done(tile, g, first, second) in one thread for each g below 8,
// with the sums of the two rows of lanes 4 g to 4 g + 3.
template <typename Stream, typename Done>
__device__ __forceinline__ void run_tiles(Stream& stream, const uint4* x, int rounds, Done done) {
  __shared__ float sums[2][kWarps][kTileRows];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, tiles = kWarps / stream.sharers;
  for (int round = 0; round < rounds; ++round) {
    const int tile = stream.tile;
    float first = 0, second = 0;
    stream.next(x, first, second);
    float(&parts)[kWarps][kTileRows] = sums[round % 2];
    if (lane % 4 == 0) parts[warp][lane / 4] = first, parts[warp][8 + lane / 4] = second;
    __syncthreads();
    const int mine = static_cast<int>(threadIdx.x) / 8, g = static_cast<int>(threadIdx.x) % 8;
    const int its_tile = tile - warp / stream.sharers + mine;
    if (mine >= tiles || its_tile >= stream.end) continue;
    first = second = 0;
    for (int i = 0; i < stream.sharers; ++i) {
      first += parts[mine * stream.sharers + i][g];
      second += parts[mine * stream.sharers + i][8 + g];
    }
    done(its_tile, g, first, second);
  }
}
// How often a block that begins at tile `first` takes its tiles.
__device__ __forceinline__ int rounds_of(int first, int stride, int end) {
  return first < end ? (end - first + stride - 1) / stride : 0;
}

}  // namespace expertscope::cuda
