// Attention of few tokens, and the softmax of that of many.
#include <algorithm>

#include "engine/machines/cuda/device.h"
#include "engine/machines/cuda/device_code.cuh"

namespace expertscope::cuda {
namespace {

// One head of head_dim values, by one warp: normalised (per head), then rotated. `at` holds the head's values.
__device__ void norm_and_rotate(const AttentionShape& s, const Turn* turns, const float* norm, float whole_scale,
                                const float* from, float* to) {
  const int lane = threadIdx.x % 32;
  float scale = whole_scale;
  if (s.qk_norm == QkNorm::per_head) {
    float squares = 0;
    for (int i = lane; i < s.head_dim; i += 32) squares = fmaf(from[i], from[i], squares);
    scale = rsqrtf(warp_sum(squares) / static_cast<float>(s.head_dim) + s.eps);
  }
  const auto value = [&](int i) { return norm != nullptr ? from[i] * scale * norm[i] : from[i]; };
  const int half = s.rope_dims / 2;
  for (int i = lane; i < half; i += 32) {
    const int a = s.style == RopeStyle::interleaved ? 2 * i : i;
    const int b = s.style == RopeStyle::interleaved ? 2 * i + 1 : i + half;
    const float c = turns[i].cosine, n = turns[i].sine;
    const float u = value(a), v = value(b);
    to[a] = u * c - v * n;
    to[b] = u * n + v * c;
  }
  for (int i = s.rope_dims + lane; i < s.head_dim; i += 32) to[i] = value(i);
}

// A warp a head, queries' heads first, then keys'. A head of keys brings its values along.
__global__ void __launch_bounds__(kThreads)
    rotate_kernel(AttentionShape s, const Turn* turns, const float* q_norm, const float* k_norm,
                  const StepToken* tokens, float* q, const float* k, const float* v, KeyValues cache) {
  const int t = blockIdx.y, position = tokens[t].position;
  turns += static_cast<std::int64_t>(t) * (s.rope_dims / 2);
  int head = blockIdx.x * kWarps + threadIdx.x / 32;
  const int q_width = s.heads * s.head_dim, kv_width = s.kv_heads * s.head_dim;
  float* my_q = q + static_cast<std::int64_t>(t) * q_width;
  const float* my_k = k + static_cast<std::int64_t>(t) * kv_width;
  float q_scale = 1, k_scale = 1;
  const bool whole = s.qk_norm == QkNorm::whole;
  if (whole) {
    // Queries are changed in place by other blocks, so their norm is a kernel of its own (whole_norm_kernel).
    k_scale = inverse_rms(my_k, kv_width, s.eps);
  }
  if (head < s.heads) {
    const float* norm = whole ? nullptr : q_norm;
    norm_and_rotate(s, turns, norm, q_scale, my_q + head * s.head_dim, my_q + head * s.head_dim);
    return;
  }
  head -= s.heads;
  if (head >= s.kv_heads) return;
  const std::int64_t at = static_cast<std::int64_t>(position) * kv_width + head * s.head_dim;
  norm_and_rotate(s, turns, k_norm != nullptr && whole ? k_norm + head * s.head_dim : k_norm, k_scale,
                  my_k + head * s.head_dim, cache.keys + at);
  const float* my_v = v + static_cast<std::int64_t>(t) * kv_width + head * s.head_dim;
  for (int i = threadIdx.x % 32; i < s.head_dim; i += 32) cache.values[at + i] = my_v[i];
}

__global__ void __launch_bounds__(kThreads) whole_norm_kernel(float* x, const float* norm, float eps, int width) {
  float* row = x + static_cast<std::int64_t>(blockIdx.x) * width;
  const float scale = inverse_rms(row, width, eps);
  for (int i = threadIdx.x; i < width; i += kThreads) row[i] *= scale * norm[i];
}

// One block a (head, token), or for a long context several, each with its share of the positions: every warp takes
// every eighth position with a running softmax; the warps' results are joined at the end, and the blocks' by the last
// of them. Lane i holds values i, i + 32, … of the head.
constexpr int kMostHeadDim = 256;

// A softmax over some positions, unfinished: the largest score, the sum of weights, and the weighted values.
struct AttentionPart {
  float largest, total;
};

// Joins `count` parts whose values lie `pitch` floats apart; value d of head_dim for each thread.
template <typename Part>
__device__ __forceinline__ void join_parts(Part part, const float* values, int count, int pitch, int head_dim,
                                           float* out, AttentionPart* joined) {
  float all = -INFINITY;
  for (int w = 0; w < count; ++w) all = fmaxf(all, part(w).largest);
  for (int d = threadIdx.x; d < head_dim; d += kThreads) {
    float numerator = 0, denominator = 0;
    for (int w = 0; w < count; ++w) {
      const AttentionPart p = part(w);
      if (p.total == 0) continue;  // it had no position
      const float factor = expf(p.largest - all);
      numerator = fmaf(factor, values[w * pitch + d], numerator);
      denominator = fmaf(factor, p.total, denominator);
    }
    out[d] = joined != nullptr ? numerator : numerator / denominator;
    if (joined != nullptr && d == 0) *joined = {all, denominator};
  }
}

template <int Parts>  // of 32 values, as many as a head has: known, so that all loads of a round are on the way at once
__global__ void __launch_bounds__(kThreads) attend_kernel(AttentionShape s, const StepToken* tokens, const float* q,
                                                          KeyValues cache, float* out, AttentionScratch scratch) {
  __shared__ AttentionPart parts[kWarps];
  __shared__ float values[kWarps][kMostHeadDim];
  __shared__ bool last;
  const int head = blockIdx.x, t = blockIdx.y, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int splits = gridDim.z, length = tokens[t].position + 1, share = (length + splits - 1) / splits;
  const int begin = blockIdx.z * share, end = min(length, begin + share);
  const int kv_width = s.kv_heads * s.head_dim, kv_offset = head / (s.heads / s.kv_heads) * s.head_dim;
  const std::int64_t row = static_cast<std::int64_t>(t) * s.heads + head;
  const float scale = rsqrtf(static_cast<float>(s.head_dim));
  float my_q[Parts], sum[Parts] = {};
#pragma unroll
  for (int i = 0; i < Parts; ++i)
    my_q[i] = lane + 32 * i < s.head_dim ? q[row * s.head_dim + lane + 32 * i] * scale : 0;
  float most = -INFINITY, weight = 0;
  // Several positions at once: their keys and values are on the way together.
  constexpr int kTogether = 4;
  for (int first = begin + warp; first < end; first += kWarps * kTogether) {
    float dot[kTogether], v[kTogether][Parts];
#pragma unroll
    for (int j = 0; j < kTogether; ++j) {
      const int p = min(first + j * kWarps, end - 1);
      const float* key = cache.keys + static_cast<std::int64_t>(p) * kv_width + kv_offset;
      const float* value = cache.values + static_cast<std::int64_t>(p) * kv_width + kv_offset;
      dot[j] = 0;
#pragma unroll
      for (int i = 0; i < Parts; ++i) {
        const bool there = lane + 32 * i < s.head_dim;
        dot[j] = fmaf(my_q[i], there ? key[lane + 32 * i] : 0, dot[j]);
        v[j][i] = there ? value[lane + 32 * i] : 0;
      }
    }
#pragma unroll
    for (int j = 0; j < kTogether; ++j) {
      const float score = warp_sum(dot[j]);
      if (first + j * kWarps >= end) break;
      const float now = fmaxf(most, score), keep = expf(most - now), add = expf(score - now);
      most = now;
      weight = weight * keep + add;
#pragma unroll
      for (int i = 0; i < Parts; ++i) {
        sum[i] = sum[i] * keep + add * v[j][i];
      }
    }
  }
  if (lane == 0) parts[warp] = {most, weight};
#pragma unroll
  for (int i = 0; i < Parts; ++i) {
    if (lane + 32 * i < s.head_dim) values[warp][lane + 32 * i] = sum[i];
  }
  __syncthreads();
  const auto of_warp = [&](int w) { return parts[w]; };
  if (splits == 1) {
    join_parts(of_warp, values[0], kWarps, kMostHeadDim, s.head_dim, out + row * s.head_dim, nullptr);
    return;
  }
  // Parts of a head lie one after the other, each its two numbers and its values.
  const int pitch = s.head_dim + 2;
  float* mine = scratch.parts + (static_cast<std::int64_t>(head) * splits + blockIdx.z) * pitch;
  join_parts(of_warp, values[0], kWarps, kMostHeadDim, s.head_dim, mine + 2, reinterpret_cast<AttentionPart*>(mine));
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) last = atomicInc(scratch.counters + head, splits - 1) == static_cast<unsigned>(splits - 1);
  __syncthreads();
  if (!last) return;
  __threadfence();
  const float* of_head = scratch.parts + static_cast<std::int64_t>(head) * splits * pitch;
  join_parts([&](int i) { return *reinterpret_cast<const AttentionPart*>(of_head + i * pitch); }, of_head + 2, splits,
             pitch, s.head_dim, out + row * s.head_dim, nullptr);
}

// One token: a block has a head of keys, all Group heads of queries that share it, and its share of the positions.
// Queries and the new key are normalised and rotated where they are needed; the block that has the last position stores
// the new key and value. Keys and values of earlier positions are asked for before the kernel ahead is done: no kernel
// under way writes them.
struct OneToken {
  AttentionShape shape;
  const Turn* turns;
  const float *q_norm, *k_norm, *q, *k, *v;
  KeyValues cache;
  float* out;
  int position;
  AttentionScratch scratch;
};

template <int Count>
__device__ __forceinline__ void load_settled(const float* p, float (&v)[Count]) {
  if constexpr (Count == 4) {
    asm volatile("ld.global.cg.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(v[0]), "=f"(v[1]), "=f"(v[2]), "=f"(v[3])
                 : "l"(p));
  } else if constexpr (Count == 2) {
    asm volatile("ld.global.cg.v2.f32 {%0, %1}, [%2];" : "=f"(v[0]), "=f"(v[1]) : "l"(p));
  } else {
    asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(v[0]) : "l"(p));
  }
}

// By one warp, from device memory into shared: normalised, then rotated. Values of a lane are neighbours.
template <int Vec>
__device__ __forceinline__ void fetch_and_rotate(const AttentionShape& s, const Turn* turns, const float* norm,
                                                 const float* from, float* to) {
  const int lane = threadIdx.x % 32;
  float v[Vec];
  load_settled(from + lane * Vec, v);
  if (s.qk_norm == QkNorm::per_head) {
    float squares = 0;
#pragma unroll
    for (int i = 0; i < Vec; ++i) squares = fmaf(v[i], v[i], squares);
    const float scale = rsqrtf(warp_sum(squares) / static_cast<float>(s.head_dim) + s.eps);
#pragma unroll
    for (int i = 0; i < Vec; ++i) v[i] *= scale * norm[lane * Vec + i];
  }
#pragma unroll
  for (int i = 0; i < Vec; ++i) to[lane * Vec + i] = v[i];
  __syncwarp();
  const int half = s.rope_dims / 2;
  for (int i = lane; i < half; i += 32) {
    const int a = s.style == RopeStyle::interleaved ? 2 * i : i;
    const int b = s.style == RopeStyle::interleaved ? 2 * i + 1 : i + half;
    const float c = turns[i].cosine, n = turns[i].sine, x = to[a], y = to[b];
    to[a] = x * c - y * n;
    to[b] = x * n + y * c;
  }
  __syncwarp();
}

template <int Vec, int Group>
__global__ void __launch_bounds__(kThreads) attend_one_kernel(OneToken o) {
  constexpr int kDim = 32 * Vec, kTogether = 4;
  __shared__ __align__(16) float heads[Group + 1][kDim];  // queries, then the new key
  __shared__ __align__(16) float values[kWarps][Group][kDim];
  __shared__ AttentionPart parts[kWarps][Group];
  __shared__ float factors[kMostSplits][Group];
  __shared__ bool last;
  const AttentionShape& s = o.shape;
  const int kv = blockIdx.x, splits = gridDim.y, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int length = o.position + 1, share = (length + splits - 1) / splits;
  const int begin = blockIdx.y * share, end = min(length, begin + share);
  const int settled = min(end, o.position);  // positions from earlier steps end here
  const int kv_width = s.kv_heads * kDim;
  const float* keys = o.cache.keys + kv * kDim + lane * Vec;
  const float* old_values = o.cache.values + kv * kDim + lane * Vec;
  float k[kTogether][Vec], v[kTogether][Vec];
  const auto ask = [&](int first) {
#pragma unroll
    for (int j = 0; j < kTogether; ++j) {
      const int p = first + j * kWarps;
      if (p >= settled) break;
      load_settled(keys + static_cast<std::int64_t>(p) * kv_width, k[j]);
      load_settled(old_values + static_cast<std::int64_t>(p) * kv_width, v[j]);
    }
  };
  ask(begin + warp);
  let_next_kernel_start();
  wait_for_kernel_ahead();
  const bool has_new = end == length && begin < end;
  for (int h = warp; h < Group + (has_new ? 1 : 0); h += kWarps) {
    if (h < Group)
      fetch_and_rotate<Vec>(s, o.turns, o.q_norm, o.q + (kv * Group + h) * kDim, heads[h]);
    else
      fetch_and_rotate<Vec>(s, o.turns, o.k_norm, o.k + kv * kDim, heads[Group]);
  }
  __syncthreads();
  const float scale = rsqrtf(static_cast<float>(kDim));
  float q[Group][Vec], sum[Group][Vec] = {}, most[Group], weight[Group];
#pragma unroll
  for (int g = 0; g < Group; ++g) {
#pragma unroll
    for (int i = 0; i < Vec; ++i) q[g][i] = heads[g][lane * Vec + i] * scale;
    most[g] = -INFINITY, weight[g] = 0;
  }
  const auto take = [&](int count) {  // of the positions asked for
#pragma unroll
    for (int g = 0; g < Group; ++g) {
      float score[kTogether], now = most[g];
#pragma unroll
      for (int j = 0; j < kTogether; ++j) {
        if (j >= count) break;
        float dot = 0;
#pragma unroll
        for (int i = 0; i < Vec; ++i) dot = fmaf(q[g][i], k[j][i], dot);
        score[j] = warp_sum(dot);
        now = fmaxf(now, score[j]);
      }
      const float keep = expf(most[g] - now);
      most[g] = now;
      weight[g] *= keep;
#pragma unroll
      for (int i = 0; i < Vec; ++i) sum[g][i] *= keep;
#pragma unroll
      for (int j = 0; j < kTogether; ++j) {
        if (j >= count) break;
        const float add = expf(score[j] - now);
        weight[g] += add;
#pragma unroll
        for (int i = 0; i < Vec; ++i) sum[g][i] = fmaf(add, v[j][i], sum[g][i]);
      }
    }
  };
  for (int first = begin + warp; first < settled; first += kWarps * kTogether) {
    take(min(kTogether, (settled - first + kWarps - 1) / kWarps));
    ask(first + kWarps * kTogether);
  }
  if (has_new && warp == kWarps - 1) {
    float fresh_v[Vec];
    load_settled(o.v + kv * kDim + lane * Vec, fresh_v);
    const std::int64_t at = static_cast<std::int64_t>(o.position) * kv_width + kv * kDim + lane * Vec;
#pragma unroll
    for (int i = 0; i < Vec; ++i) {
      k[0][i] = heads[Group][lane * Vec + i];
      v[0][i] = fresh_v[i];
      o.cache.keys[at + i] = k[0][i];
      o.cache.values[at + i] = v[0][i];
    }
    take(1);
  }
#pragma unroll
  for (int g = 0; g < Group; ++g) {
    if (lane == 0) parts[warp][g] = {most[g], weight[g]};
#pragma unroll
    for (int i = 0; i < Vec; ++i) values[warp][g][lane * Vec + i] = sum[g][i];
  }
  __syncthreads();
  // The warps' parts become the block's. Of several blocks each leaves its part; the last of a head joins them.
  float* of_head = o.scratch.parts + static_cast<std::int64_t>(kv) * splits * Group * (kDim + 2);
  auto* of_blocks = reinterpret_cast<AttentionPart*>(of_head + static_cast<std::int64_t>(splits) * Group * kDim);
  float* out = o.out + kv * Group * kDim;
  for (int i = threadIdx.x; i < Group * kDim; i += kThreads) {
    const int g = i / kDim, d = i % kDim;
    float all = -INFINITY, numerator = 0, denominator = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) all = fmaxf(all, parts[w][g].largest);
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      const AttentionPart part = parts[w][g];
      if (part.total == 0) continue;  // it had no position
      const float factor = expf(part.largest - all);
      numerator = fmaf(factor, values[w][g][d], numerator);
      denominator = fmaf(factor, part.total, denominator);
    }
    if (splits == 1) {
      out[i] = numerator / denominator;
    } else {
      of_head[static_cast<std::int64_t>(blockIdx.y) * Group * kDim + i] = numerator;
      if (d == 0) of_blocks[blockIdx.y * Group + g] = {all, denominator};
    }
  }
  if (splits == 1) return;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) last = atomicInc(o.scratch.counters + kv, splits - 1) == static_cast<unsigned>(splits - 1);
  __syncthreads();
  if (!last) return;
  __threadfence();
  for (int g = warp; g < Group; g += kWarps) {  // a lane a block: kMostSplits are 32
    const bool there = lane < splits;
    const float* part = reinterpret_cast<const float*>(of_blocks + lane * Group + g);
    const float total = there ? fresh(part + 1) : 0;
    const float largest = total > 0 ? fresh(part) : -INFINITY;
    const float all = warp_max(largest), factor = total > 0 ? expf(largest - all) : 0;
    const float denominator = warp_sum(factor * total);
    if (there) factors[lane][g] = factor / denominator;
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x) * 4; i < Group * kDim; i += kThreads * 4) {
    const int g = i / kDim;
    float4 result = make_float4(0, 0, 0, 0);
#pragma unroll 16
    for (int b = 0; b < splits; ++b) {
      const float factor = factors[b][g];
      const float4 value = fresh4(of_head + static_cast<std::int64_t>(b) * Group * kDim + i);
      result.x = fmaf(factor, value.x, result.x), result.y = fmaf(factor, value.y, result.y);
      result.z = fmaf(factor, value.z, result.z), result.w = fmaf(factor, value.w, result.w);
    }
    *reinterpret_cast<float4*>(out + i) = result;
  }
}

template <int Vec, int Group>
bool launch_attend_one(const OneToken& o, cudaStream_t stream) {
  // Heads of keys alone do not fill a GPU: positions are shared out, at no less than a round of the warps a block.
  const int most = std::min(kMostSplits, std::max(1, 128 / o.shape.kv_heads));
  const int splits = std::clamp((o.position + 1) / 32, 1, most);
  launch_chained(attend_one_kernel<Vec, Group>,
                 dim3(static_cast<unsigned>(o.shape.kv_heads), static_cast<unsigned>(splits)), 0, stream, o);
  return true;
}
template <int Vec>
bool launch_attend_one(const OneToken& o, int group, cudaStream_t stream) {
  switch (group) {
    case 1:
      return launch_attend_one<Vec, 1>(o, stream);
    case 2:
      return launch_attend_one<Vec, 2>(o, stream);
    case 4:
      return launch_attend_one<Vec, 4>(o, stream);
    case 8:
      return launch_attend_one<Vec, 8>(o, stream);
    default:
      return false;
  }
}

__global__ void __launch_bounds__(kThreads)
    softmax_kernel(const float* scores, __half* probabilities, int tokens, int first, int length) {
  const std::int64_t row = blockIdx.x;
  const float* in = scores + row * length;
  __half* out = probabilities + row * length;
  const int seen = first + static_cast<int>(row % tokens) + 1;
  float most = -INFINITY;
  for (int p = threadIdx.x; p < seen; p += kThreads) most = fmaxf(most, in[p]);
  most = block_max(most);
  float sum = 0;
  for (int p = threadIdx.x; p < seen; p += kThreads) sum += __expf(in[p] - most);
  const float scale = 1 / block_sum(sum);
  for (int p = threadIdx.x; p < length; p += kThreads) {
    out[p] = p < seen ? __float2half_rn(__expf(in[p] - most) * scale) : __half(0);
  }
}

}  // namespace

void rotate_and_store(const AttentionShape& s, const Turn* turns, const float* q_norm, const float* k_norm,
                      const StepToken* tokens, float* q, const float* k, const float* v, KeyValues cache, int count,
                      cudaStream_t stream) {
  if (s.qk_norm == QkNorm::whole)
    whole_norm_kernel<<<count, kThreads, 0, stream>>>(q, q_norm, s.eps, s.heads * s.head_dim);
  rotate_kernel<<<dim3(static_cast<unsigned>(ceil_div(s.heads + s.kv_heads, kWarps)), static_cast<unsigned>(count)),
                  kThreads, 0, stream>>>(s, turns, q_norm, k_norm, tokens, q, k, v, cache);
  check_launch("queueing the rotation");
}

void attend(const AttentionShape& s, const StepToken* tokens, const float* q, KeyValues cache, float* out, int count,
            int last, const AttentionScratch& scratch, cudaStream_t stream) {
  // Heads alone do not fill a GPU: a long context is shared out, at no less than a few rounds of its warps a block.
  constexpr int kLeastPositions = 48;
  const int splits = count > 1 ? 1 : std::clamp((last + 1) / kLeastPositions, 1, kMostSplits / 2);
  const dim3 grid(static_cast<unsigned>(s.heads), static_cast<unsigned>(count), static_cast<unsigned>(splits));
  const auto launch = [&](auto kernel) { kernel<<<grid, kThreads, 0, stream>>>(s, tokens, q, cache, out, scratch); };
  if (s.head_dim <= 32)
    launch(attend_kernel<1>);
  else if (s.head_dim <= 64)
    launch(attend_kernel<2>);
  else if (s.head_dim <= 128)
    launch(attend_kernel<4>);
  else
    launch(attend_kernel<8>);
  check_launch("queueing attention");
}

bool rotate_and_attend(const AttentionShape& s, const Turn* turns, const float* q_norm, const float* k_norm,
                       const float* q, const float* k, const float* v, KeyValues cache, float* out, int position,
                       const AttentionScratch& scratch, cudaStream_t stream) {
  if (s.qk_norm == QkNorm::whole) return false;  // that norm wants the heads of all blocks
  const OneToken o{s, turns, q_norm, k_norm, q, k, v, cache, out, position, scratch};
  const int group = s.heads / s.kv_heads;
  switch (s.head_dim) {
    case 32:
      return launch_attend_one<1>(o, group, stream);
    case 64:
      return launch_attend_one<2>(o, group, stream);
    case 128:
      return launch_attend_one<4>(o, group, stream);
    default:
      return false;
  }
}

void causal_softmax(const float* scores, __half* probabilities, int rows, int tokens, int first, int length,
                    cudaStream_t stream) {
  softmax_kernel<<<rows, kThreads, 0, stream>>>(scores, probabilities, tokens, first, length);
  check_launch("queueing a softmax");
}

}  // namespace expertscope::cuda
