// Attention of few tokens, and the softmax of that of many.
#include <algorithm>

#include "engine/machines/cuda/device.h"
#include "engine/machines/cuda/device_code.cuh"

namespace expertscope::cuda {
namespace {

// One head of head_dim values, by one warp: normalised (per head), then rotated. `at` holds the head's values.
__device__ void norm_and_rotate(const AttentionShape& s, const double* frequencies, int position, const float* norm,
                                float whole_scale, const float* from, float* to) {
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
    double sine, cosine;
    sincos(position * frequencies[i], &sine, &cosine);
    const float c = static_cast<float>(cosine), n = static_cast<float>(sine);
    const float u = value(a), v = value(b);
    to[a] = u * c - v * n;
    to[b] = u * n + v * c;
  }
  for (int i = s.rope_dims + lane; i < s.head_dim; i += 32) to[i] = value(i);
}

// A warp a head, queries' heads first, then keys'. A head of keys brings its values along.
__global__ void __launch_bounds__(kThreads)
    rotate_kernel(AttentionShape s, const double* frequencies, const float* q_norm, const float* k_norm,
                  const StepToken* tokens, float* q, const float* k, const float* v, KeyValues cache) {
  const int t = blockIdx.y, position = tokens[t].position;
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
    norm_and_rotate(s, frequencies, position, norm, q_scale, my_q + head * s.head_dim, my_q + head * s.head_dim);
    return;
  }
  head -= s.heads;
  if (head >= s.kv_heads) return;
  const std::int64_t at = static_cast<std::int64_t>(position) * kv_width + head * s.head_dim;
  norm_and_rotate(s, frequencies, position, k_norm != nullptr && whole ? k_norm + head * s.head_dim : k_norm, k_scale,
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

void rotate_and_store(const AttentionShape& s, const double* frequencies, const float* q_norm, const float* k_norm,
                      const StepToken* tokens, float* q, const float* k, const float* v, KeyValues cache, int count,
                      cudaStream_t stream) {
  if (s.qk_norm == QkNorm::whole)
    whole_norm_kernel<<<count, kThreads, 0, stream>>>(q, q_norm, s.eps, s.heads * s.head_dim);
  rotate_kernel<<<dim3(static_cast<unsigned>(ceil_div(s.heads + s.kv_heads, kWarps)), static_cast<unsigned>(count)),
                  kThreads, 0, stream>>>(s, frequencies, q_norm, k_norm, tokens, q, k, v, cache);
  check_launch("queueing the rotation");
}

void attend(const AttentionShape& s, const StepToken* tokens, const float* q, KeyValues cache, float* out, int count,
            int last, const AttentionScratch& scratch, cudaStream_t stream) {
  // Heads alone do not fill a GPU: a long context is shared out, at no less than a few rounds of its warps a block.
  constexpr int kLeastPositions = 48;
  const int splits = count > 1 ? 1 : std::clamp((last + 1) / kLeastPositions, 1, kMostSplits);
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

void causal_softmax(const float* scores, __half* probabilities, int rows, int tokens, int first, int length,
                    cudaStream_t stream) {
  softmax_kernel<<<rows, kThreads, 0, stream>>>(scores, probabilities, tokens, first, length);
  check_launch("queueing a softmax");
}

}  // namespace expertscope::cuda
