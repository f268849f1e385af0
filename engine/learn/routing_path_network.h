// The predictor as it is trained: float weights, forward and backward over a mini-batch. For routing_path_training.cpp.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/model/thread_pool.h"

namespace expertscope {

// One token to learn from: what it is predicted from, and its picks as indices layer * experts + expert.
struct RoutingPathSample {
  std::vector<const float*> inputs;      // [recent + means]: rows of `basis` numbers, nullptr where there is no token
  std::span<const std::uint16_t> picks;  // [layer][rank]
};

struct RoutingPathSizes {
  int basis = 0;   // numbers of one input
  int inputs = 0;  // recent tokens and running means
  int width = 0, hidden = 0, layers = 0, experts = 0, top_k = 0;
};

class RoutingPathNetwork {
 public:
  RoutingPathNetwork(const RoutingPathSizes&, std::span<const float> output_bias, std::uint64_t seed);
  ~RoutingPathNetwork();

  // One step of Adam on the mean binary cross-entropy of a mini-batch.
  void train(std::span<const RoutingPathSample> batch, ThreadPool&, double rate, double decay);

  // Row-major: [basis][width], [inputs * width][hidden], [hidden], [hidden][outputs], [outputs].
  std::span<const float> projection() const { return part(0); }
  std::span<const float> input() const { return part(1); }
  std::span<const float> input_bias() const { return part(2); }
  std::span<const float> output() const { return part(3); }
  std::span<const float> output_bias() const { return part(4); }

 private:
  struct Shard;  // a fixed part of a mini-batch: sums are taken in the same order whatever the threads do
  static constexpr int kShards = 8;

  std::span<const float> part(int number) const;
  void transpose_weights();
  void run(std::span<const RoutingPathSample>, Shard&) const;
  void backward(const RoutingPathSample&, Shard&) const;
  void update(double rate, double decay, std::size_t batch);

  RoutingPathSizes sizes_;
  std::size_t begin_[6];  // of each part in the flat vectors
  std::vector<float> weights_, first_moment_, second_moment_;
  std::vector<float> input_transposed_, output_transposed_;
  std::vector<Shard> shards_;
  double first_power_ = 1, second_power_ = 1;  // of Adam's factors
};

}  // namespace expertscope
