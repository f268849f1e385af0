// The routers: of one token, with the mail to the host, and of many.
#include <algorithm>

#include "engine/machines/cuda/choice.cuh"

namespace expertscope::cuda {
namespace {

template <int Tokens>
__device__ void router_logits(const RouterGates& g, const RouterOutputs& out, int tokens, float* normed) {
  const int cols = g.w[0].cols, first = blockIdx.y * Tokens;
  const float* x[Tokens];
#pragma unroll
  for (int i = 0; i < Tokens; ++i) {
    const int t = min(first + i, tokens - 1);
    const float* row = g.x + static_cast<std::int64_t>(t) * cols;
    const float scale = inverse_rms(row, cols, g.eps);
    for (int c = threadIdx.x; c < cols; c += kThreads) {
      const float v = row[c] * scale * g.norm[c];
      normed[i * cols + c] = v;
      if (blockIdx.x != 0 || first + i >= tokens) continue;
      out.input[static_cast<std::int64_t>(t) * cols + c] = v;
      if (out.input_half != nullptr) out.input_half[static_cast<std::int64_t>(t) * cols + c] = narrow(v);
    }
    x[i] = normed + i * cols;
  }
  __syncthreads();
  const int experts = g.w[0].rows, blocks = (experts + kWarps - 1) / kWarps;
  const int gate = blockIdx.x / blocks, row = blockIdx.x % blocks * kWarps + static_cast<int>(threadIdx.x) / 32;
  if (row >= experts) return;
  const DeviceMatrix m[1] = {g.w[gate]};
  const int rows[1] = {row};
  float sums[1][Tokens];
  rows_times<1, Tokens>(m, rows, x, sums);
  if (threadIdx.x % 32 != 0) return;
#pragma unroll
  for (int i = 0; i < Tokens; ++i) {
    if (first + i >= tokens) continue;
    out.logits[(static_cast<std::int64_t>(first + i) * g.count + gate) * experts + row] = sums[0][i];
  }
}

// A block a row of the routers. What norm and product need is added up in one go: the logit of x norm / rms(x) is that
// of x norm, divided at the end.
constexpr int kAhead = 4;  // of a thread's 16-byte pieces of a float32 row
__global__ void __launch_bounds__(kThreads)
    route_one_kernel(RouterGates g, RouterOutputs out, const std::uint64_t* table, std::uint64_t* table_copy,
                     Stamp stamp) {
  __shared__ float parts[2][kWarps];
  const int experts = g.w[0].rows, cols = g.w[0].cols, gate = blockIdx.x / experts, row = blockIdx.x % experts;
  const int warp = threadIdx.x / 32;
  const DeviceMatrix& w = g.w[gate];
  // The host's table is a link away: it is read while the kernel ahead runs. The copy is of this layer alone.
  if (blockIdx.x == 0) {
    for (int e = threadIdx.x; e < experts; e += kThreads)
      table_copy[e] = *const_cast<const volatile std::uint64_t*>(table + e);
  }
  for (int c = static_cast<int>(threadIdx.x) * 32; c < cols; c += kThreads * 32) prefetch(g.norm + c);
  float squares = 0, dot = 0;
  const auto add = [&](int column, const float4& weights) {
    const float4 v = fresh4(g.x + column), n = *reinterpret_cast<const float4*>(g.norm + column);
    squares = fmaf(v.x, v.x, fmaf(v.y, v.y, fmaf(v.z, v.z, fmaf(v.w, v.w, squares))));
    dot = fmaf(v.x * n.x, weights.x, fmaf(v.y * n.y, weights.y, dot));
    dot = fmaf(v.z * n.z, weights.z, fmaf(v.w * n.w, weights.w, dot));
  };
  if (w.type == TensorType::f32) {
    const std::uint8_t* from = w.quants + static_cast<std::int64_t>(row) * cols * 4;
    uint4 ahead[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int at = static_cast<int>(threadIdx.x) + i * kThreads;
      if (at * 4 < cols) ahead[i] = bits::load16(from + at * 16);
    }
    let_next_kernel_start();
    wait_for_kernel_ahead();
    stamp_start(stamp);
    const auto as_floats = [](const uint4& v) {
      return make_float4(__uint_as_float(v.x), __uint_as_float(v.y), __uint_as_float(v.z), __uint_as_float(v.w));
    };
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int at = static_cast<int>(threadIdx.x) + i * kThreads;
      if (at * 4 < cols) add(at * 4, as_floats(ahead[i]));
    }
    for (int at = static_cast<int>(threadIdx.x) + kAhead * kThreads; at * 4 < cols; at += kThreads)
      add(at * 4, as_floats(bits::load16(from + at * 16)));
  } else {
    let_next_kernel_start();
    wait_for_kernel_ahead();
    stamp_start(stamp);
    with_decoder(w.type, [&](auto decoder) {
      for (int chunk = threadIdx.x; chunk < cols / kChunk; chunk += kThreads) {
        float weights[kChunk];
        decoder.read(w, row, chunk, weights);
#pragma unroll
        for (int run = 0; run < kChunk / 4; ++run) {
          add(decoder.column_of(chunk, run),
              make_float4(weights[4 * run], weights[4 * run + 1], weights[4 * run + 2], weights[4 * run + 3]));
        }
      }
    });
  }
  squares = warp_sum(squares), dot = warp_sum(dot);
  if (threadIdx.x % 32 == 0) parts[0][warp] = squares, parts[1][warp] = dot;
  __syncthreads();
  squares = dot = 0;
#pragma unroll
  for (int i = 0; i < kWarps; ++i) squares += parts[0][i], dot += parts[1][i];
  const float scale = rsqrtf(squares / static_cast<float>(cols) + g.eps);
  if (threadIdx.x == 0) out.logits[blockIdx.x] = dot * scale;
  // The experts' input, a piece a block.
  for (int c = static_cast<int>(blockIdx.x * kThreads + threadIdx.x); c < cols;
       c += static_cast<int>(gridDim.x) * kThreads) {
    out.input[c] = fresh(g.x + c) * scale * g.norm[c];
  }
}

__global__ void __launch_bounds__(kThreads) mail_kernel(Choice choice, RouterMail mail) {
  let_next_kernel_start();
  wait_for_kernel_ahead();
  post(choice, mail);
}

template <int Tokens>
__global__ void __launch_bounds__(kThreads)
    route_many_kernel(RouterGates g, RouterOutputs out, int tokens, Stamp stamp) {
  extern __shared__ float normed[];
  stamp_start(stamp);
  router_logits<Tokens>(g, out, tokens, normed);
}

// The same for prompts, in two kernels: inputs of the experts, a token a block ...
__global__ void __launch_bounds__(kThreads) router_inputs_kernel(RouterGates g, RouterOutputs out, Stamp stamp) {
  stamp_start(stamp);
  const int cols = g.w[0].cols;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * cols;
  const float scale = inverse_rms(g.x + first, cols, g.eps);
  for (int c = threadIdx.x; c < cols; c += kThreads) {
    const float v = g.x[first + c] * scale * g.norm[c];
    out.input[first + c] = v;
    if (out.input_half != nullptr) out.input_half[first + c] = narrow(v);
  }
}
// ... and the product of a tile of tokens and a tile of one gate's experts, both through shared memory.
constexpr int kRouteTokens = 16, kRouteExperts = 128, kRouteDepth = 32;
__global__ void __launch_bounds__(kThreads) router_product_kernel(RouterGates g, RouterOutputs out, int tokens) {
  __shared__ float xs[kRouteTokens][kRouteDepth + 1], ws[kRouteDepth][kRouteExperts + 1];
  const int experts = g.w[0].rows, cols = g.w[0].cols, tiles = (experts + kRouteExperts - 1) / kRouteExperts;
  const int gate = blockIdx.y / tiles, first_expert = blockIdx.y % tiles * kRouteExperts;
  const int first = blockIdx.x * kRouteTokens, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const float* w = reinterpret_cast<const float*>(g.w[gate].quants);
  constexpr int kPieces = kRouteExperts * kRouteDepth / 4 / kThreads, kTokensOfWarp = kRouteTokens / kWarps;
  constexpr int kExpertsOfLane = kRouteExperts / 32;
  float4 weights[kPieces];
  float inputs[kTokensOfWarp];
  const auto fetch = [&](int column) {
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const int piece = static_cast<int>(threadIdx.x) + i * kThreads;
      const int row = min(first_expert + piece / (kRouteDepth / 4), experts - 1);
      weights[i] = *reinterpret_cast<const float4*>(w + static_cast<std::int64_t>(row) * cols + column +
                                                    piece % (kRouteDepth / 4) * 4);
    }
#pragma unroll
    for (int i = 0; i < kTokensOfWarp; ++i) {
      const int t = min(first + warp * kTokensOfWarp + i, tokens - 1);
      inputs[i] = out.input[static_cast<std::int64_t>(t) * cols + column + lane];
    }
  };
  float sums[kTokensOfWarp][kExpertsOfLane] = {};
  fetch(0);
  for (int column = 0; column < cols; column += kRouteDepth) {
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const int piece = static_cast<int>(threadIdx.x) + i * kThreads;
      const int row = piece / (kRouteDepth / 4), c = piece % (kRouteDepth / 4) * 4;
      ws[c][row] = weights[i].x, ws[c + 1][row] = weights[i].y;
      ws[c + 2][row] = weights[i].z, ws[c + 3][row] = weights[i].w;
    }
#pragma unroll
    for (int i = 0; i < kTokensOfWarp; ++i) xs[warp * kTokensOfWarp + i][lane] = inputs[i];
    __syncthreads();
    if (column + kRouteDepth < cols) fetch(column + kRouteDepth);
#pragma unroll
    for (int k = 0; k < kRouteDepth; ++k) {
#pragma unroll
      for (int e = 0; e < kExpertsOfLane; ++e) {
        const float weight = ws[k][lane + 32 * e];
#pragma unroll
        for (int i = 0; i < kTokensOfWarp; ++i) sums[i][e] = fmaf(xs[warp * kTokensOfWarp + i][k], weight, sums[i][e]);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kTokensOfWarp; ++i) {
    const int t = first + warp * kTokensOfWarp + i;
#pragma unroll
    for (int e = 0; e < kExpertsOfLane; ++e) {
      const int expert = first_expert + lane + 32 * e;
      if (t < tokens && expert < experts)
        out.logits[(static_cast<std::int64_t>(t) * g.count + gate) * experts + expert] = sums[i][e];
    }
  }
}

// One warp a token.
__global__ void choose_kernel(RouterGates g, RouterOutputs out, Stamp stamp) {
  const Pick pick = choose(g.rule, out.logits + static_cast<std::int64_t>(blockIdx.x) * g.count * g.rule.experts);
  if (static_cast<int>(threadIdx.x) < g.rule.top_k)
    out.weights[static_cast<std::int64_t>(blockIdx.x) * g.rule.top_k + threadIdx.x] = pick.weight;
  stamp_end(stamp);
}

int shared_for(int cols, int tokens) {
  return cols * tokens * static_cast<int>(sizeof(float));
}

}  // namespace

void route_one(const RouterGates& g, const RouterOutputs& out, const std::uint64_t* table, std::uint64_t* table_copy,
               Stamp stamp, cudaStream_t stream) {
  launch_chained(route_one_kernel, dim3(static_cast<unsigned>(g.w[0].rows * g.count)), 0, stream, g, out, table,
                 table_copy, stamp);
}

void send_mail(const Choice& choice, const RouterMail& mail, cudaStream_t stream) {
  launch_chained(mail_kernel, dim3(1), 0, stream, choice, mail);
}

void route_many(const RouterGates& g, const RouterOutputs& out, int tokens, Stamp stamp, cudaStream_t stream) {
  const unsigned blocks = static_cast<unsigned>(ceil_div(g.w[0].rows, kWarps) * g.count);
  bool plain = g.w[0].cols % kRouteDepth == 0;
  for (int i = 0; i < g.count; ++i) plain = plain && g.w[i].type == TensorType::f32;
  if (plain && tokens >= 256) {
    router_inputs_kernel<<<tokens, kThreads, 0, stream>>>(g, out, stamp);
    const dim3 grid(static_cast<unsigned>(ceil_div(tokens, kRouteTokens)),
                    static_cast<unsigned>(ceil_div(g.w[0].rows, kRouteExperts) * g.count));
    router_product_kernel<<<grid, kThreads, 0, stream>>>(g, out, tokens);
  } else {
    const int shared = shared_for(g.w[0].cols, 2);
    allow_shared(route_many_kernel<2>, shared);
    route_many_kernel<2><<<dim3(blocks, static_cast<unsigned>(ceil_div(tokens, 2))), kThreads,
                           static_cast<std::size_t>(shared), stream>>>(g, out, tokens, stamp);
  }
  choose_kernel<<<tokens, 32, 0, stream>>>(g, out, stamp);
  check_launch("queueing the router");
}

}  // namespace expertscope::cuda
