// The router and the experts of few tokens.
#include "engine/machines/cuda/device.h"
#include "engine/machines/cuda/device_code.cuh"

namespace expertscope::cuda {
namespace {

constexpr int kRowsOfBlock = 2 * kWarps;
constexpr int kMostExperts = 1024;

// Scratch of choose, in shared memory.
struct Choice {
  float logits[kMostExperts], left[kMostExperts];
  std::int32_t expert[kMaxTopK];  // the picks, best first
};

// A token's picks and their weights, as engine/model/routing.cpp computes them. By one warp.
__device__ void choose(const RouterRule& rule, const float* logits, Choice& c, float* weights) {
  const int lane = threadIdx.x;
  float most = -INFINITY;
  for (int e = lane; e < rule.experts; e += 32) {
    c.logits[e] = c.left[e] = logits[e];
    most = fmaxf(most, c.logits[e]);
  }
  most = warp_max(most);
  float sum = 0;
  for (int e = lane; e < rule.experts; e += 32) sum += expf(c.logits[e] - most);
  sum = warp_sum(sum);
  __syncwarp();
  for (int k = 0; k < rule.top_k; ++k) {
    float best = -INFINITY;
    int which = rule.experts;
    for (int e = lane; e < rule.experts; e += 32) {
      if (c.left[e] > best) best = c.left[e], which = e;  // ties stay with the lower expert
    }
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
      const float other = __shfl_xor_sync(0xffffffffu, best, offset);
      const int its = __shfl_xor_sync(0xffffffffu, which, offset);
      if (other > best || (other == best && its < which)) best = other, which = its;
    }
    if (which >= rule.experts) which = k;  // a router of NaNs: the host ends the run
    if (lane == 0) {
      c.expert[k] = which;
      c.left[which] = -INFINITY;
    }
    __syncwarp();
  }
  const bool picks = lane < rule.top_k;
  const float logit = picks ? c.logits[c.expert[lane]] : 0;
  float weight = 0;
  if (picks) {
    weight = rule.gate == RouterGate::softmax   ? expf(logit - most) / sum
             : rule.gate == RouterGate::sigmoid ? 1 / (1 + expf(-logit))
                                                : logit;
  }
  if (rule.softmax_on_selected) {
    const float largest = warp_max(picks ? weight : -INFINITY);
    const float share = picks ? expf(weight - largest) : 0;
    weight = share / warp_sum(share);
  }
  if (rule.renormalise) {
    const float total = warp_sum(weight);
    weight = total > 0 ? weight / total : 1.0f / static_cast<float>(rule.top_k);
  }
  if (picks) weights[lane] = weight * rule.scale;
}

// Logits of Tokens tokens; the first block of a tile also leaves their inputs.
template <int Tokens>
__device__ void router_logits(const RouterGates& g, const RouterOutputs& out, float* mail_input, int tokens,
                              float* normed) {
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
      if (mail_input != nullptr) mail_input[c] = v;
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

__global__ void __launch_bounds__(kThreads)
    route_one_kernel(RouterGates g, RouterOutputs out, RouterMail mail, const std::uint64_t* table,
                     std::uint64_t* table_copy, Tile* tiles, PickRow* picks, Stamp stamp) {
  extern __shared__ float normed[];
  __shared__ Choice choice;
  stamp_start(stamp);
  const int experts = g.w[0].rows;
  // The host's table is a link away: it is read while the products run.
  if (blockIdx.x == 0) {
    for (int e = threadIdx.x; e < experts; e += kThreads) table_copy[e] = table[e];
  }
  router_logits<1>(g, out, mail.input, 1, normed);
  if (blockIdx.x == 0) __threadfence_system();  // the mail's input is there before the mail is
  if (!last_block(stamp.counter)) return;
  for (int i = threadIdx.x; i < g.count * experts; i += kThreads) mail.logits[i] = out.logits[i];
  if (threadIdx.x < 32) {
    choose(g.rule, out.logits, choice, out.weights);
    if (threadIdx.x < g.rule.top_k) {
      const int k = threadIdx.x;
      tiles[k] = {table_copy[choice.expert[k]], k, 1};
      picks[k] = {0, k};
    }
  }
  if (threadIdx.x == 0 && stamp.end != nullptr) *stamp.end = global_time();
  __threadfence_system();
  __syncthreads();
  if (threadIdx.x == 0) *mail.ready = mail.number;
}

template <int Tokens>
__global__ void __launch_bounds__(kThreads)
    route_many_kernel(RouterGates g, RouterOutputs out, int tokens, Stamp stamp) {
  extern __shared__ float normed[];
  stamp_start(stamp);
  router_logits<Tokens>(g, out, nullptr, tokens, normed);
}

// One warp a token.
__global__ void choose_kernel(RouterGates g, RouterOutputs out, Stamp stamp) {
  __shared__ Choice choice;
  choose(g.rule, out.logits + static_cast<std::int64_t>(blockIdx.x) * g.count * g.rule.experts, choice,
         out.weights + static_cast<std::int64_t>(blockIdx.x) * g.rule.top_k);
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

template <typename Kernel>
void allow_shared(Kernel kernel, int bytes) {
  if (bytes <= 32 * 1024) return;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), "asking for shared memory");
}

}  // namespace

void route_one(const RouterGates& g, const RouterOutputs& out, const RouterMail& mail, const std::uint64_t* table,
               std::uint64_t* table_copy, Tile* tiles, PickRow* picks, Stamp stamp, cudaStream_t stream) {
  const int shared = shared_for(g.w[0].cols, 1);
  allow_shared(route_one_kernel, shared);
  route_one_kernel<<<ceil_div(g.w[0].rows, kWarps) * g.count, kThreads, static_cast<std::size_t>(shared), stream>>>(
      g, out, mail, table, table_copy, tiles, picks, stamp);
  check_launch("queueing the router");
}

void route_many(const RouterGates& g, const RouterOutputs& out, int tokens, Stamp stamp, cudaStream_t stream) {
  const unsigned blocks = static_cast<unsigned>(ceil_div(g.w[0].rows, kWarps) * g.count);
  const int shared = shared_for(g.w[0].cols, 2);
  allow_shared(route_many_kernel<2>, shared);
  route_many_kernel<2><<<dim3(blocks, static_cast<unsigned>(ceil_div(tokens, 2))), kThreads,
                         static_cast<std::size_t>(shared), stream>>>(g, out, tokens, stamp);
  choose_kernel<<<tokens, 32, 0, stream>>>(g, out, stamp);
  check_launch("queueing the router");
}

void run_experts(const ExpertRun& run, Stamp stamp, cudaStream_t stream) {
  if (run.most_rows > 1)
    launch_experts<kSmallTile>(run, stamp, stream);
  else
    launch_experts<1>(run, stamp, stream);
  check_launch("queueing experts");
}

}  // namespace expertscope::cuda
