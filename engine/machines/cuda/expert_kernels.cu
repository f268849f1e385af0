// The experts of few tokens.
#include <algorithm>

#include "engine/machines/cuda/choice.cuh"
#include "engine/machines/cuda/row_tiles.cuh"

namespace expertscope::cuda {
namespace {

constexpr int kRowsOfBlock = 2 * kWarps;

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

// The rank whose rows a block works on and its expert's blob, 0 where that is not there.
struct RankOfBlock {
  int rank;
  std::uint64_t blob;
};
__device__ __forceinline__ RankOfBlock rank_of_block(const OneRun& run, int block) {
  const int rank = run.blob != 0 ? run.rank : block / run.blocks_of_rank;
  return {rank, run.blob != 0 ? run.blob : blob_of(run.choice, rank)};
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
  const auto [rank, blob] = rank_of_block(run, block);
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

// The same for quantised matrices. With both halves a lane's two rows are the same row of gate and up.
template <typename D, Half half>
__global__ void __launch_bounds__(kThreads, 2) gate_up_tiles_kernel(OneRun run, Stamp stamp) {
  extern __shared__ uint4 tile_x[];
  wait_for_kernel_ahead();
  let_next_kernel_start();
  stamp_start(stamp);
  if (run.mails && blockIdx.x == 0) return post(run.choice, run.mail);
  const int block = static_cast<int>(blockIdx.x) - (run.mails ? 1 : 0);
  const auto [rank, blob] = rank_of_block(run, block);
  if (blob == 0) return;
  const DeviceMatrix gate = in_blob(run.layout.gate, blob), up = in_blob(run.layout.up, blob);
  const int cols = gate.cols, sharers = sharers_of(cols), warp = static_cast<int>(threadIdx.x) / 32;
  constexpr int kRows = half == Half::both ? kTileRows / 2 : kTileRows;
  const int tiles = (gate.rows + kRows - 1) / kRows, together = kWarps / sharers;
  const int first = block % run.blocks_of_rank * together, stride = run.blocks_of_rank * together;
  auto stream = tile_stream<D>(
      [&](int tile, int g, int which, int& row) -> DeviceMatrix {
        row = min(tile * kRows + (half == Half::both ? 0 : 8 * which) + g, gate.rows - 1);
        return half == Half::up || (half == Half::both && which == 1) ? up : gate;
      },
      cols, warp % sharers, sharers, first + warp / sharers, stride, tiles);
  stream.start();
  stage_tile<D>(run.input, nullptr, cols, threadIdx.x, kThreads, tile_x, nullptr);
  __syncthreads();
  float* hidden = run.hidden + static_cast<std::int64_t>(rank) * gate.rows;
  run_tiles(stream, tile_x, rounds_of(first, stride, tiles), [&](int tile, int g, float sum, float second) {
    const int row = tile * kRows + g;
    const auto gated = [](float g_sum, float u_sum) { return g_sum / (1 + expf(-g_sum)) * u_sum; };
    if constexpr (half == Half::both) {
      if (row < gate.rows) hidden[row] = gated(sum, second);
    } else {
      if (row < gate.rows) hidden[row] = half == Half::gate ? sum : gated(fresh(hidden + row), sum);
      if (row + 8 < gate.rows) hidden[row + 8] = half == Half::gate ? second : gated(fresh(hidden + row + 8), second);
    }
  });
}

// A block works on one rank's rows.
template <typename D>
__global__ void __launch_bounds__(kThreads, 2) down_one_kernel(OneRun run, Stamp stamp) {
  extern __shared__ float4 staged[];
  const auto [rank, blob] = rank_of_block(run, static_cast<int>(blockIdx.x));
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

template <typename D>
__global__ void __launch_bounds__(kThreads, 2) down_tiles_kernel(OneRun run, Stamp stamp) {
  extern __shared__ uint4 tile_x[];
  const auto [rank, blob] = rank_of_block(run, static_cast<int>(blockIdx.x));
  const DeviceMatrix down = in_blob(run.layout.down, blob);
  const int cols = down.cols, sharers = sharers_of(cols), warp = static_cast<int>(threadIdx.x) / 32;
  const int tiles = blob != 0 ? (down.rows + kTileRows - 1) / kTileRows : 0, together = kWarps / sharers;
  const int first = static_cast<int>(blockIdx.x) % run.blocks_of_rank * together,
            stride = run.blocks_of_rank * together;
  auto stream = tile_stream<D>(
      [&](int tile, int g, int which, int& row) -> DeviceMatrix {
        row = min(tile * kTileRows + 8 * which + g, down.rows - 1);
        return down;
      },
      cols, warp % sharers, sharers, first + warp / sharers, stride, tiles);
  stream.start();
  let_next_kernel_start();
  wait_for_kernel_ahead();
  if (blob != 0) {
    stage_tile<D>(run.hidden + static_cast<std::int64_t>(rank) * cols, nullptr, cols, threadIdx.x, kThreads, tile_x,
                  nullptr);
    __syncthreads();
    float* output = run.output + static_cast<std::int64_t>(rank) * down.rows;
    run_tiles(stream, tile_x, rounds_of(first, stride, tiles), [&](int tile, int g, float sum, float second) {
      const int row = tile * kTileRows + g;
      if (row < down.rows) output[row] = sum;
      if (row + 8 < down.rows) output[row + 8] = second;
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

// The same for quantised matrices: a tile of all ranks a block.
template <typename D>
__global__ void __launch_bounds__(kThreads, 2) down_sum_tiles_kernel(OneRun run, Stamp stamp) {
  extern __shared__ uint4 tile_x[];
  __shared__ float products[kWarps][kTileRows], weights[kWarps];
  const int top_k = run.choice.rule.top_k, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int rank = warp % top_k, sharers = kWarps / top_k;
  const Pick pick = choose(run.choice.rule, run.choice.logits);
  const std::uint64_t mine = lane < top_k ? fresh(run.choice.table + pick.expert) : 1;
  const bool all = __all_sync(0xffffffffu, mine != 0);
  const std::uint64_t blob = __shfl_sync(0xffffffffu, mine, rank);
  if (warp == 0 && lane < top_k) weights[lane] = pick.weight;
  const DeviceMatrix down = in_blob(run.layout.down, blob);
  const int first_row = blockIdx.x * kTileRows, rows = min(kTileRows, down.rows - first_row);
  auto stream = tile_stream<D>(
      [&](int, int g, int which, int& row) -> DeviceMatrix {
        row = first_row + min(8 * which + g, rows - 1);
        return down;
      },
      down.cols, warp / top_k, sharers, 0, 1, blob != 0 ? 1 : 0);
  stream.start();
  let_next_kernel_start();
  wait_for_kernel_ahead();
  // Each rank's warps lay out its hidden values.
  uint4* x = tile_x + rank * (tile_bytes(down.cols) / 16);
  if (blob != 0)
    stage_tile<D>(run.hidden + static_cast<std::int64_t>(rank) * down.cols, nullptr, down.cols,
                  warp / top_k * 32 + lane, 32 * sharers, x, nullptr);
  __syncthreads();
  float first = 0, second = 0;
  stream.next(x, first, second);
  if (lane % 4 == 0) products[warp][lane / 4] = first, products[warp][8 + lane / 4] = second;
  __syncthreads();
  const auto product = [&](int k, int row) {
    float sum = 0;
    for (int i = 0; i < sharers; ++i) sum += products[k + i * top_k][row];
    return sum;
  };
  if (all) {
    if (static_cast<int>(threadIdx.x) < rows) {
      float sum = 0;
      for (int k = 0; k < top_k; ++k) {
        if (weights[k] != 0) sum = fmaf(weights[k], product(k, threadIdx.x), sum);
      }
      float* to = run.x + first_row + threadIdx.x;
      *to = fresh(to) + sum;
    }
  } else if (blob != 0 && warp < top_k && lane < rows) {
    run.output[static_cast<std::int64_t>(rank) * down.rows + first_row + lane] = product(rank, lane);
  }
  stamp_end(stamp);
}

// Launches a kernel that cuts each rank's matrix into `pieces`.
template <typename Kernel>
void launch_ranks(Kernel kernel, OneRun& run, int pieces, int ranks, int shared, const Stamp& stamp,
                  cudaStream_t stream) {
  allow_shared(kernel, shared);
  run.blocks_of_rank = std::max(1, blocks_for(kernel, pieces * ranks, shared) / ranks);
  run.blocks_of_rank = ceil_div(pieces, ceil_div(pieces, run.blocks_of_rank));
  launch_chained(kernel, dim3(static_cast<unsigned>(run.blocks_of_rank * ranks + (run.mails ? 1 : 0))), shared, stream,
                 run, stamp);
}

template <typename D, Half half>
void launch_gate_up(OneRun& run, int ranks, const Stamp& stamp, cudaStream_t stream) {
  const ExpertMatrix& gate = run.layout.gate;
  if constexpr (has_tiles<D>) {
    const int tiles = ceil_div(gate.rows, half == Half::both ? kTileRows / 2 : kTileRows);
    launch_ranks(gate_up_tiles_kernel<typename TilesOf<D>::type, half>, run,
                 ceil_div(tiles, kWarps / sharers_of(gate.cols)), ranks, tile_bytes(gate.cols), stamp, stream);
  } else {
    launch_ranks(gate_up_one_kernel<D, half>, run, ceil_div(gate.rows, kWarps), ranks, staged_bytes(gate.cols), stamp,
                 stream);
  }
}

template <typename D>
void launch_down(OneRun& run, int ranks, const Stamp& stamp, cudaStream_t stream) {
  const ExpertMatrix& down = run.layout.down;
  run.mails = false;
  const auto sum = [&](auto kernel, int rows, int shared) {
    allow_shared(kernel, shared * ranks);
    launch_chained(kernel, dim3(static_cast<unsigned>(ceil_div(down.rows, rows))), shared * ranks, stream, run, stamp);
  };
  if constexpr (has_tiles<D>) {
    using Tiles = typename TilesOf<D>::type;
    const int shared = tile_bytes(down.cols);
    if (run.sums) return sum(down_sum_tiles_kernel<Tiles>, kTileRows, shared);
    const int tiles = ceil_div(down.rows, kTileRows);
    launch_ranks(down_tiles_kernel<Tiles>, run, ceil_div(tiles, kWarps / sharers_of(down.cols)), ranks, shared, stamp,
                 stream);
  } else {
    const int shared = staged_bytes(down.cols);
    if (run.sums) return sum(down_sum_kernel<D>, kSumRows, shared);
    launch_ranks(down_one_kernel<D>, run, ceil_div(ceil_div(down.rows, 2), kWarps), ranks, shared, stamp, stream);
  }
}

void launch_one(OneRun& run, int ranks, const Stamp& stamp, cudaStream_t stream) {
  const ExpertLayout& layout = run.layout;
  for_type(layout.gate.type, [&](auto gate) {
    using D = decltype(gate);
    if (layout.gate.type == layout.up.type)
      launch_gate_up<D, Half::both>(run, ranks, stamp, stream);
    else
      launch_gate_up<D, Half::gate>(run, ranks, stamp, stream);
  });
  if (layout.gate.type != layout.up.type) {
    run.mails = false;
    for_type(layout.up.type, [&](auto up) { launch_gate_up<decltype(up), Half::up>(run, ranks, stamp, stream); });
  }
  for_type(layout.down.type, [&](auto down) { launch_down<decltype(down)>(run, ranks, stamp, stream); });
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

}  // namespace

bool sums_by_itself(const ExpertLayout& layout, const RouterRule& rule) {
  // Hidden values of all ranks lie in shared memory at once, of three blocks.
  return rule.top_k <= kWarps && kWarps % rule.top_k == 0 && tile_bytes(layout.down.cols) * rule.top_k <= 48 * 1024;
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
