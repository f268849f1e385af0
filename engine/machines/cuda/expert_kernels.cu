// The experts of few tokens.
#include <algorithm>

#include "engine/machines/cuda/choice.cuh"

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

}  // namespace

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
