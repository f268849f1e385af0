// The kernels of the CUDA machine, as functions that queue them on a stream. Everything is float32 in device memory,
// row-major, one row a token, unless it says float16. Launch errors are found by check_launch (device.h).
#pragma once

#include <cstdint>
#include <span>

#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include "engine/machines/cuda/device_matrix.h"
#include "engine/model/model_description.h"

namespace expertscope::cuda {

// Where an operation writes when it began and ended (%globaltimer, ns), in mapped host memory. An operation of several
// kernels gives `start` to its first and `end` to its last. `counter` finds a kernel's last block; it is 0 between
// kernels, so kernels that share one must not overlap.
struct Stamp {
  std::uint64_t* start = nullptr;
  std::uint64_t* end = nullptr;
  std::uint32_t* counter = nullptr;
};

struct StepToken {
  std::int32_t id = 0, position = 0;
};

// Rows of `tokens` of the step that one expert serves: the row's token, and its place among all (token, rank) outputs.
struct PickRow {
  std::int32_t token = 0, output = 0;
};

// Up to `rows` picks of one expert, [first, first + rows) of the list of picks. blob 0: nothing to do.
struct Tile {
  std::uint64_t blob = 0;
  std::int32_t first = 0, rows = 0;
};
inline constexpr int kSmallTile = 4, kLargeTile = 64;

// The matrices of one expert, by their offsets in its blob.
struct ExpertLayout {
  ExpertMatrix gate, up, down;
};

// True when the kernels that are built in and the device know chained launches (compute capability 9.0).
bool kernels_can_chain();

// --- embedding
// Cosine and sine by which a pair of values of a head is rotated.
struct Turn {
  float cosine = 1, sine = 0;
};
struct Turns {
  const double* frequencies = nullptr;  // [pairs]
  Turn* of_tokens = nullptr;            // [tokens][pairs]
  int pairs = 0;
};
// Copies the step's tokens from mapped memory and their embedding rows into x, and works out their turns.
void embed(const DeviceMatrix& embedding, const StepToken* mapped, StepToken* tokens, float* x, const Turns&, int count,
           Stamp, cudaStream_t);

// --- products of few tokens: y[i] = W[i] norm(x), or += with `add`
struct Products {
  DeviceMatrix w[4];
  float* y[4] = {};
  int count = 0;
  const float* x = nullptr;
  const float* norm = nullptr;  // nullptr: x as it is
  float eps = 0;
  bool add = false;
  const std::int32_t* only = nullptr;  // indices of the tokens that are wanted, y compact; nullptr: all
};
void multiply(const Products&, int tokens, Stamp, cudaStream_t);

// --- products of many tokens, by tensor cores over float16 activations
struct LargeProduct {
  DeviceMatrix w;
  const __half* x = nullptr;
  float* y = nullptr;
  bool add = false;
};
void multiply_large(const LargeProduct&, int tokens, Stamp, cudaStream_t);
void norm_to_half(const float* x, const float* norm, float eps, int width, int tokens, __half* y, Stamp, cudaStream_t);

// --- attention
struct AttentionShape {
  int heads = 0, kv_heads = 0, head_dim = 0;
  RopeStyle style = RopeStyle::interleaved;
  int rope_dims = 0;
  QkNorm qk_norm = QkNorm::none;
  float eps = 0;
};
struct KeyValues {  // of one layer: [capacity][kv_heads * head_dim]
  float* keys = nullptr;
  float* values = nullptr;
};
// Normalises and rotates queries in place, keys into the cache; copies values there.
void rotate_and_store(const AttentionShape&, const Turn* turns, const float* q_norm, const float* k_norm,
                      const StepToken* tokens, float* q, const float* k, const float* v, KeyValues, int count,
                      cudaStream_t);
// Where blocks that share a head leave their parts of a long context: kMostSplits * heads * (head_dim + 2) floats, and
// a counter for each head, 0 between kernels.
struct AttentionScratch {
  float* parts = nullptr;
  std::uint32_t* counters = nullptr;
};
inline constexpr int kMostSplits = 32;
// out[t] = softmax(q k^T / sqrt(head_dim)) v over the cache up to each token; `last` is the last token's position.
void attend(const AttentionShape&, const StepToken* tokens, const float* q, KeyValues, float* out, int count, int last,
            const AttentionScratch&, cudaStream_t);
// Both at once for one token at `position`. False when there is no such kernel for the shape; nothing is queued then.
bool rotate_and_attend(const AttentionShape&, const Turn* turns, const float* q_norm, const float* k_norm,
                       const float* q, const float* k, const float* v, KeyValues, float* out, int position,
                       const AttentionScratch&, cudaStream_t);
// Pieces of the attention of many tokens.
void to_half(const float* x, __half* y, std::int64_t values, cudaStream_t);
// Rows of scores, [rows][length], as float16 probabilities; row r belongs to the token of position first + r % tokens
// and sees so many positions and itself.
void causal_softmax(const float* scores, __half* probabilities, int rows, int tokens, int first, int length,
                    cudaStream_t);

// --- routing
// What the host reads of a decode step's router, in mapped memory: written before `ready` is.
struct RouterMail {
  volatile std::uint64_t* ready = nullptr;  // gets `number` when the rest is there
  std::uint64_t number = 0;
  std::uint64_t* routed = nullptr;  // the time, as a Stamp has it
  float* logits = nullptr;          // [gates][experts]
  float* input = nullptr;           // [width]: x_l, for experts on the CPU
  const float* logits_from = nullptr;
  const float* input_from = nullptr;
  int logit_count = 0, width = 0;
};
struct RouterOutputs {
  float* logits = nullptr;       // [tokens][gates * experts]
  float* input = nullptr;        // [tokens][width]: x_l
  __half* input_half = nullptr;  // the same, or nullptr
  float* weights = nullptr;      // [tokens][top_k]
};
struct RouterGates {
  DeviceMatrix w[4];  // this layer's router, then those of coming layers
  int count = 1;
  const float* x = nullptr;
  const float* norm = nullptr;
  float eps = 0;
  RouterRule rule;
};
// One token: logits and input, and a copy of `table` (mapped: device address of each expert's blob or 0).
void route_one(const RouterGates&, const RouterOutputs&, const std::uint64_t* table, std::uint64_t* table_copy, Stamp,
               cudaStream_t);
// What the picks of one token follow from, wherever they are needed: after route_one.
struct Choice {
  RouterRule rule;
  const float* logits = nullptr;
  const std::uint64_t* table = nullptr;  // the copy
  float* weights = nullptr;              // [top_k], written by who sends the mail
};
// Sends the mail and leaves the weights.
void send_mail(const Choice&, const RouterMail&, cudaStream_t);
// Many: logits, inputs and weights.
void route_many(const RouterGates&, const RouterOutputs&, int tokens, Stamp, cudaStream_t);

// --- experts
struct ExpertRun {
  ExpertLayout layout;
  const Tile* tiles = nullptr;  // in device memory; nullptr: `one`, cut into tiles
  int tile_count = 0;           // with `tiles`
  Tile one;
  const PickRow* picks = nullptr;  // nullptr: `pick`, a single one
  PickRow pick;
  int most_rows = 1;  // of any tile
  const float* input = nullptr;
  const __half* input_half = nullptr;
  float* hidden = nullptr;  // [picks][expert_ff]
  __half* hidden_half = nullptr;
  float* output = nullptr;  // [tokens * top_k][width]
};
void run_experts(const ExpertRun&, Stamp, cudaStream_t);  // tiles of kSmallTile
// One token's picks that are there, each to the output of its rank, and the mail. When all are there and
// sums_by_itself, their weighted sum is added to x instead, in rank order.
void run_chosen(const ExpertRun&, const Choice&, const RouterMail&, float* x, Stamp, cudaStream_t);
bool sums_by_itself(const ExpertLayout&, const RouterRule&);
void run_experts_large(const ExpertRun&, Stamp, cudaStream_t);  // tiles of kLargeTile, float16 activations

// x[t] += sum over ranks of weights[t][rank] * output, in rank order. Outputs whose byte in `from_host` (or, for one
// token, bit in `host_bits`) is set are read from mapped host memory instead.
struct Combination {
  const float* weights = nullptr;
  const float* output = nullptr;
  const float* host_output = nullptr;
  const std::uint8_t* from_host = nullptr;
  std::uint32_t host_bits = 0;
  int top_k = 0, width = 0;
  float* x = nullptr;
};
void combine(const Combination&, int tokens, Stamp, cudaStream_t);

// Between device memory and mapped host memory, by a kernel, in the stream's order. Both 16-byte aligned; bytes are
// rounded up to 16.
void move(const void* from, void* to, std::int64_t bytes, cudaStream_t);

// --- clock
void stamp_now(std::uint64_t* at, cudaStream_t);
// Answers `rounds` times: waits until *ask is the round's number, then writes the time and the number.
void answer(volatile std::uint32_t* ask, std::uint64_t* times, volatile std::uint32_t* answered, int rounds,
            cudaStream_t);

}  // namespace expertscope::cuda
