// The router and the experts of few tokens.
#include <algorithm>

#include "engine/machines/cuda/device.h"
#include "engine/machines/cuda/device_code.cuh"
#include "engine/machines/cuda/row_streams.cuh"

namespace expertscope::cuda {
namespace {

constexpr int kRowsOfBlock = 2 * kWarps;

// Larger floats are larger numbers; never 0.
__device__ __forceinline__ std::uint32_t order_of(float v) {
  const std::uint32_t bits = __float_as_uint(v + 0.0f);  // -0 and 0 are equal
  return max(1u, bits & 0x80000000u ? ~bits : bits | 0x80000000u);
}
__device__ __forceinline__ std::uint32_t warp_max(std::uint32_t v) {
#if __CUDA_ARCH__ >= 800
  return __reduce_max_sync(0xffffffffu, v);
#else
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) v = max(v, __shfl_xor_sync(0xffffffffu, v, offset));
  return v;
#endif
}

// A token's pick of rank `lane` and its weight, in the lanes below top_k.
struct Pick {
  int expert = 0;
  float weight = 0;
};

// By one warp that holds the logits in registers: experts lane, lane + 32, … As engine/model/routing.cpp chooses.
template <int PerLane>
__device__ __forceinline__ Pick choose_of(const RouterRule& rule, const float* logits) {
  const int lane = threadIdx.x % 32;
  float logit[PerLane];
#pragma unroll
  for (int i = 0; i < PerLane; ++i) {
    logit[i] = lane + 32 * i < rule.experts ? fresh(logits + lane + 32 * i) : -INFINITY;
  }
  std::uint32_t left[PerLane];
  float most = -INFINITY;
#pragma unroll
  for (int i = 0; i < PerLane; ++i) {
    left[i] = lane + 32 * i < rule.experts ? order_of(logit[i]) : 0;
    most = fmaxf(most, logit[i]);
  }
  Pick pick;
  float picked = 0;
  for (int k = 0; k < rule.top_k; ++k) {
    std::uint32_t best = 0;
#pragma unroll
    for (int i = 0; i < PerLane; ++i) best = max(best, left[i]);
    best = warp_max(best);
    std::uint32_t last_one = 0;  // ties go to the lower expert: the larger complement
#pragma unroll
    for (int i = 0; i < PerLane; ++i) {
      if (left[i] == best) last_one = max(last_one, ~static_cast<std::uint32_t>(lane + 32 * i));
    }
    const int which = static_cast<int>(~warp_max(last_one));
    float value = 0;
#pragma unroll
    for (int i = 0; i < PerLane; ++i) {
      if (lane + 32 * i == which) left[i] = 0, value = logit[i];
    }
    value = __shfl_sync(0xffffffffu, value, which % 32);
    if (lane == k) pick.expert = which, picked = value;
  }
  const bool picks = lane < rule.top_k;
  if (rule.gate == RouterGate::softmax) {
    most = warp_max(most);
    float sum = 0;
#pragma unroll
    for (int i = 0; i < PerLane; ++i) sum += expf(logit[i] - most);
    sum = warp_sum(sum);
    pick.weight = picks ? expf(picked - most) / sum : 0;
  } else {
    pick.weight = !picks ? 0 : rule.gate == RouterGate::sigmoid ? 1 / (1 + expf(-picked)) : picked;
  }
  if (rule.softmax_on_selected) {
    const float largest = warp_max(picks ? pick.weight : -INFINITY);
    const float share = picks ? expf(pick.weight - largest) : 0;
    pick.weight = share / warp_sum(share);
  }
  if (rule.renormalise) {
    const float total = warp_sum(pick.weight);
    pick.weight = total > 0 ? pick.weight / total : 1.0f / static_cast<float>(rule.top_k);
  }
  pick.weight *= rule.scale;
  return pick;
}
// Apart, for the sake of the registers of those who call it.
__device__ __noinline__ Pick choose_of_many(const RouterRule& rule, const float* logits) {
  return choose_of<kMaxExperts / 32>(rule, logits);
}
__device__ __forceinline__ Pick choose(const RouterRule& rule, const float* logits) {
  if (rule.experts <= 32) return choose_of<1>(rule, logits);
  if (rule.experts <= 128) return choose_of<4>(rule, logits);
  return choose_of_many(rule, logits);
}

// Logits of Tokens tokens; the first block of a tile also leaves their inputs.
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

// By one block, after the wait: everything the host wants to know, and the weights.
__device__ void post(const Choice& choice, const RouterMail& mail) {
  for (int i = threadIdx.x; i < mail.logit_count; i += kThreads) mail.logits[i] = fresh(mail.logits_from + i);
  for (int c = static_cast<int>(threadIdx.x) * 4; c < mail.width; c += kThreads * 4)
    *reinterpret_cast<float4*>(mail.input + c) = fresh4(mail.input_from + c);
  if (threadIdx.x == 0) *mail.routed = global_time();
  __threadfence_system();
  __syncthreads();
  if (threadIdx.x == 0) *mail.ready = mail.number;
  if (threadIdx.x >= 32) return;
  const Pick pick = choose(choice.rule, choice.logits);
  if (static_cast<int>(threadIdx.x) < choice.rule.top_k) choice.weights[threadIdx.x] = pick.weight;
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

// --- experts

__device__ __forceinline__ PickRow pick_of(const ExpertRun& run, int i) {
  return run.picks != nullptr ? run.picks[i] : run.pick;
}

// A warp takes the same row of gate and up.
template <int Tokens>
__global__ void __launch_bounds__(kThreads, Tokens == 1 ? 3 : 1) gate_up_kernel(ExpertRun run, Stamp stamp) {
  stamp_start(stamp);
  const Tile tile = tile_of(run, Tokens);
  if (tile.blob == 0) return;
  const int row = blockIdx.x * kWarps + threadIdx.x / 32;
  if (row >= run.layout.gate.rows) return;
  const DeviceMatrix gate = in_blob(run.layout.gate, tile.blob), up = in_blob(run.layout.up, tile.blob);
  const float* x[Tokens];
#pragma unroll
  for (int i = 0; i < Tokens; ++i) {
    x[i] = run.input +
           static_cast<std::int64_t>(pick_of(run, tile.first + min(i, tile.rows - 1)).token) * run.layout.gate.cols;
  }
  float g[1][Tokens], u[1][Tokens];
  if (gate.type == up.type) {
    const DeviceMatrix m[2] = {gate, up};
    const int rows[2] = {row, row};
    float both[2][Tokens];
    rows_times<2, Tokens>(m, rows, x, both);
#pragma unroll
    for (int i = 0; i < Tokens; ++i) g[0][i] = both[0][i], u[0][i] = both[1][i];
  } else {
    const DeviceMatrix only_gate[1] = {gate}, only_up[1] = {up};
    const int rows[1] = {row};
    rows_times<1, Tokens>(only_gate, rows, x, g);
    rows_times<1, Tokens>(only_up, rows, x, u);
  }
  if (threadIdx.x % 32 != 0) return;
#pragma unroll
  for (int i = 0; i < Tokens; ++i) {
    if (i >= tile.rows) break;
    const float silu = g[0][i] / (1 + expf(-g[0][i]));
    run.hidden[static_cast<std::int64_t>(tile.first + i) * run.layout.gate.rows + row] = silu * u[0][i];
  }
}

template <int Tokens>
__device__ void down_rows(const ExpertRun& run, const Tile& tile) {
  const ExpertMatrix& shape = run.layout.down;
  const int row = blockIdx.x * kRowsOfBlock + static_cast<int>(threadIdx.x) / 32 * 2;
  if (row >= shape.rows) return;
  const DeviceMatrix down = in_blob(shape, tile.blob);
  const float* x[Tokens];
#pragma unroll
  for (int i = 0; i < Tokens; ++i) {
    x[i] = run.hidden + static_cast<std::int64_t>(tile.first + min(i, tile.rows - 1)) * shape.cols;
  }
  const DeviceMatrix m[2] = {down, down};
  const int rows[2] = {row, min(row + 1, shape.rows - 1)};
  float sums[2][Tokens];
  rows_times<2, Tokens>(m, rows, x, sums);
  if (threadIdx.x % 32 != 0) return;
#pragma unroll
  for (int i = 0; i < Tokens; ++i) {
    if (i >= tile.rows) break;
    const std::int64_t output = static_cast<std::int64_t>(pick_of(run, tile.first + i).output) * shape.rows;
    run.output[output + row] = sums[0][i];
    if (row + 1 < shape.rows) run.output[output + row + 1] = sums[1][i];
  }
}

template <int Tokens>
__global__ void __launch_bounds__(kThreads, Tokens == 1 ? 3 : 1) down_kernel(ExpertRun run, Stamp stamp) {
  const Tile tile = tile_of(run, Tokens);
  if (tile.blob != 0) down_rows<Tokens>(run, tile);
  stamp_end(stamp);
}

// --- experts of one token

// Which expert's blob a block works on: of a rank of the token's picks, or the one that was asked for.
struct OneRun {
  ExpertLayout layout;
  const float* input = nullptr;
  float* hidden = nullptr;  // [top_k][expert_ff]
  float* output = nullptr;  // [top_k][width]
  std::uint64_t blob = 0;   // 0: of the choice
  int rank = 0;             // with blob
  int blocks_of_rank = 1;
  bool mails = false;  // then the first block does nothing else
  bool sums = false;   // when all picks are there, their sum goes to x
  float* x = nullptr;
  Choice choice = {};
  RouterMail mail = {};
};

__device__ __forceinline__ std::uint64_t blob_of(const Choice& choice, int rank) {
  const Pick pick = choose(choice.rule, choice.logits);
  return fresh(choice.table + __shfl_sync(0xffffffffu, pick.expert, rank));
}

// Where gate and up are of different types, up's launch finds what gate's left.
enum class Half { both, gate, up };

template <typename D, Half half>
__global__ void __launch_bounds__(kThreads, 2) gate_up_one_kernel(OneRun run, Stamp stamp) {
  extern __shared__ float4 staged[];
  // The next kernel chooses too: its blocks may start when the logits are there for all of them.
  wait_for_kernel_ahead();
  let_next_kernel_start();
  stamp_start(stamp);
  if (run.mails && blockIdx.x == 0) return post(run.choice, run.mail);
  const int block = static_cast<int>(blockIdx.x) - (run.mails ? 1 : 0);
  const int rank = run.blob != 0 ? run.rank : block / run.blocks_of_rank;
  const std::uint64_t blob = run.blob != 0 ? run.blob : blob_of(run.choice, rank);
  if (blob == 0) return;
  const DeviceMatrix gate = in_blob(run.layout.gate, blob), up = in_blob(run.layout.up, blob);
  float* hidden = run.hidden + static_cast<std::int64_t>(rank) * gate.rows;
  const int first = block % run.blocks_of_rank * kWarps + static_cast<int>(threadIdx.x) / 32;
  const int stride = run.blocks_of_rank * kWarps;
  constexpr int kRows = half == Half::both ? 2 : 1;
  DeviceMatrix m[kRows];
  m[0] = half == Half::up ? up : gate;
  if constexpr (half == Half::both) m[1] = up;
  auto stream = row_stream<D, kRows>(
      m, [](int unit, int) { return unit; }, first, stride, gate.rows);
  stream.start();
  stage<D, kThreads>(run.input, nullptr, gate.cols, threadIdx.x, staged, nullptr);
  __syncthreads();
  stream.run(staged, [&](int unit, const float(&sums)[kRows]) {
    if (threadIdx.x % 32 != 0) return;
    if constexpr (half == Half::gate) {
      hidden[unit] = sums[0];
    } else {
      const float g = half == Half::both ? sums[0] : fresh(hidden + unit);
      hidden[unit] = g / (1 + expf(-g)) * sums[kRows - 1];
    }
  });
}

// A block works on one rank's rows.
template <typename D>
__global__ void __launch_bounds__(kThreads, 2) down_one_kernel(OneRun run, Stamp stamp) {
  extern __shared__ float4 staged[];
  const int rank = run.blob != 0 ? run.rank : static_cast<int>(blockIdx.x) / run.blocks_of_rank;
  const std::uint64_t blob = run.blob != 0 ? run.blob : blob_of(run.choice, rank);
  const DeviceMatrix down = in_blob(run.layout.down, blob);
  const DeviceMatrix m[2] = {down, down};
  auto stream = row_stream<D, 2>(
      m, [&](int unit, int r) { return min(2 * unit + r, down.rows - 1); },
      static_cast<int>(blockIdx.x) % run.blocks_of_rank * kWarps + static_cast<int>(threadIdx.x) / 32,
      run.blocks_of_rank * kWarps, blob != 0 ? (down.rows + 1) / 2 : 0);
  stream.start();
  let_next_kernel_start();
  wait_for_kernel_ahead();
  if (blob != 0) {
    float* output = run.output + static_cast<std::int64_t>(rank) * down.rows;
    stage<D, kThreads>(run.hidden + static_cast<std::int64_t>(rank) * down.cols, nullptr, down.cols, threadIdx.x,
                       staged, nullptr);
    __syncthreads();
    stream.run(staged, [&](int unit, const float(&sums)[2]) {
      if (threadIdx.x % 32 != 0) return;
      output[2 * unit] = sums[0];
      if (2 * unit + 1 < down.rows) output[2 * unit + 1] = sums[1];
    });
  }
  stamp_end(stamp);
}

// A block works on the same few rows of all ranks, a warp or several a rank, and adds them up.
constexpr int kSumRows = 8;
template <typename D>
__global__ void __launch_bounds__(kThreads, 2) down_sum_kernel(OneRun run, Stamp stamp) {
  extern __shared__ float4 staged[];
  __shared__ float products[kWarps][kSumRows], weights[kWarps];
  const int top_k = run.choice.rule.top_k, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int rank = warp % top_k, sharers = kWarps / top_k;
  const Pick pick = choose(run.choice.rule, run.choice.logits);
  const std::uint64_t mine = lane < top_k ? fresh(run.choice.table + pick.expert) : 1;
  const bool all = __all_sync(0xffffffffu, mine != 0);
  const std::uint64_t blob = __shfl_sync(0xffffffffu, mine, rank);
  if (warp == 0 && lane < top_k) weights[lane] = pick.weight;
  const ExpertMatrix& shape = run.layout.down;
  const int first_row = blockIdx.x * kSumRows, rows = min(kSumRows, shape.rows - first_row);
  const DeviceMatrix down = in_blob(shape, blob);
  const DeviceMatrix m[2] = {down, down};
  auto stream = row_stream<D, 2>(
      m, [&](int unit, int r) { return first_row + min(2 * unit + r, rows - 1); }, warp / top_k, sharers,
      blob != 0 ? (rows + 1) / 2 : 0);
  stream.start();
  let_next_kernel_start();
  wait_for_kernel_ahead();
  const int pitch = staged_bytes(shape.cols) / 16;
  // Each rank's warps lay out its hidden values.
  const int thread = warp / top_k * 32 + lane;
  if (blob != 0) {
    const float* from = run.hidden + static_cast<std::int64_t>(rank) * shape.cols;
    for (int i = thread; i < pitch; i += 32 * sharers) {
      const int chunk = (i >> 6) * 8 + (i & 7), run_of_chunk = i >> 3 & 7;
      if (chunk * kChunk < shape.cols) staged[rank * pitch + i] = fresh4(from + D::column_of(chunk, run_of_chunk));
    }
  }
  if (sharers > 1)
    __syncthreads();
  else
    __syncwarp();
  stream.run(staged + rank * pitch, [&](int unit, const float(&sums)[2]) {
    if (lane == 0) products[rank][2 * unit] = sums[0];
    if (lane == 0 && 2 * unit + 1 < rows) products[rank][2 * unit + 1] = sums[1];
  });
  __syncthreads();
  if (all) {
    if (static_cast<int>(threadIdx.x) < rows) {
      float sum = 0;
      for (int k = 0; k < top_k; ++k) {
        if (weights[k] != 0) sum = fmaf(weights[k], products[k][threadIdx.x], sum);
      }
      float* x = run.x + first_row + threadIdx.x;
      *x = fresh(x) + sum;
    }
  } else if (blob != 0 && warp < top_k && lane < rows) {
    run.output[static_cast<std::int64_t>(rank) * shape.rows + first_row + lane] = products[rank][lane];
  }
  stamp_end(stamp);
}

// Blocks for each of `ranks` matrices of so many units: all at once if they fit, else each warp the same number.
int blocks_for(int units, int ranks) {
  static const int slots = [] {
    int device = 0, processors = 0;
    check(cudaGetDevice(&device), "asking for the device");
    check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device), "asking for the device");
    return 3 * processors;
  }();
  const int room = std::max(1, (slots - 1) / ranks);
  const int rounds = ceil_div(units, room * kWarps);
  return ceil_div(units, rounds * kWarps);
}

void launch_one(OneRun& run, int ranks, const Stamp& stamp, cudaStream_t stream) {
  const auto launch = [&](auto kernel, int blocks, int shared) {
    allow_shared(kernel, shared);
    launch_chained(kernel, dim3(static_cast<unsigned>(blocks)), shared, stream, run, stamp);
  };
  const ExpertLayout& layout = run.layout;
  run.blocks_of_rank = blocks_for(layout.gate.rows, ranks);
  const int gate_blocks = run.blocks_of_rank * ranks + (run.mails ? 1 : 0);
  for_type(layout.gate.type, [&](auto gate) {
    using D = decltype(gate);
    if (layout.gate.type == layout.up.type)
      launch(gate_up_one_kernel<D, Half::both>, gate_blocks, staged_bytes(layout.gate.cols));
    else
      launch(gate_up_one_kernel<D, Half::gate>, gate_blocks, staged_bytes(layout.gate.cols));
  });
  if (layout.gate.type != layout.up.type) {
    run.mails = false;
    for_type(layout.up.type, [&](auto up) {
      launch(gate_up_one_kernel<decltype(up), Half::up>, run.blocks_of_rank * ranks, staged_bytes(layout.gate.cols));
    });
  }
  for_type(layout.down.type, [&](auto down) {
    using D = decltype(down);
    const int shared = staged_bytes(layout.down.cols);
    if (run.sums) {
      launch(down_sum_kernel<D>, ceil_div(layout.down.rows, kSumRows), shared * ranks);
    } else {
      run.blocks_of_rank = blocks_for(ceil_div(layout.down.rows, 2), ranks);
      launch(down_one_kernel<D>, run.blocks_of_rank * ranks, shared);
    }
  });
}

template <int Tokens>
void launch_experts(const ExpertRun& run, const Stamp& stamp, cudaStream_t stream) {
  const int tiles = run.tiles != nullptr ? run.tile_count : ceil_div(run.one.rows, Tokens);
  const auto grid = [&](int rows, int rows_of_block) {
    return dim3(static_cast<unsigned>(ceil_div(rows, rows_of_block)), static_cast<unsigned>(tiles));
  };
  gate_up_kernel<Tokens><<<grid(run.layout.gate.rows, kWarps), kThreads, 0, stream>>>(run, stamp);
  down_kernel<Tokens><<<grid(run.layout.down.rows, kRowsOfBlock), kThreads, 0, stream>>>(run, stamp);
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

bool sums_by_itself(const ExpertLayout& layout, const RouterRule& rule) {
  // Hidden values of all ranks lie in shared memory at once, of three blocks.
  return rule.top_k <= kWarps && kWarps % rule.top_k == 0 && staged_bytes(layout.down.cols) * rule.top_k <= 48 * 1024;
}

void run_chosen(const ExpertRun& run, const Choice& choice, const RouterMail& mail, float* x, Stamp stamp,
                cudaStream_t stream) {
  OneRun one{.layout = run.layout,
             .input = run.input,
             .hidden = run.hidden,
             .output = run.output,
             .mails = true,
             .sums = sums_by_itself(run.layout, choice.rule),
             .x = x,
             .choice = choice,
             .mail = mail};
  launch_one(one, choice.rule.top_k, stamp, stream);
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

void run_experts(const ExpertRun& run, Stamp stamp, cudaStream_t stream) {
  if (run.tiles == nullptr && run.picks == nullptr) {
    OneRun one{.layout = run.layout,
               .input = run.input,
               .hidden = run.hidden,
               .output = run.output,
               .blob = run.one.blob,
               .rank = run.pick.output};
    launch_one(one, 1, stamp, stream);
    return;
  }
  if (run.most_rows > 1)
    launch_experts<kSmallTile>(run, stamp, stream);
  else
    launch_experts<1>(run, stamp, stream);
  check_launch("queueing experts");
}

}  // namespace expertscope::cuda
