// Bytes and weights per second of products with a matrix, by type, on one thread: from a cache, and from memory with a
// matrix for each of many experts in turn.
#include <algorithm>
#include <random>
#include <vector>

#include <benchmark/benchmark.h>

#include "engine/model/kernels.h"

namespace expertscope {
namespace {

constexpr int kRows = 768, kCols = 2048;
constexpr std::int64_t kCacheBytes = 512 * 1024, kMemoryBytes = 512 * 1024 * 1024;

// Any bytes will do where they are no exponents: denormal and infinite scales would be slow.
std::vector<std::byte> random_file_bytes(TensorType type, std::int64_t values) {
  std::mt19937 random(1);
  std::vector<std::byte> out(static_cast<std::size_t>(tensor_bytes(type, values)));
  for (std::byte& b : out) b = static_cast<std::byte>(random() & 0x3b);
  return out;
}

void Product(benchmark::State& state) {
  const auto type = static_cast<TensorType>(state.range(0));
  const auto tokens = static_cast<std::size_t>(state.range(1));
  const bool from_memory = state.range(2) != 0;
  const std::int64_t bytes = tensor_bytes(type, std::int64_t{kRows} * kCols);
  const int rows = static_cast<int>(std::min(bytes, kCacheBytes) * kRows / bytes) / 8 * 8;
  const auto file = random_file_bytes(type, std::int64_t{rows} * kCols);
  std::vector<WeightMatrix> matrices;
  for (std::int64_t have = 0; have == 0 || (from_memory && have < kMemoryBytes); have += std::ssize(file)) {
    matrices.emplace_back(type, rows, kCols, file);
  }
  std::vector<float> x(tokens * kCols, 0.5f), y(tokens * static_cast<std::size_t>(rows));
  std::vector<const float*> from;
  std::vector<float*> to;
  for (std::size_t t = 0; t < tokens; ++t) {
    from.push_back(x.data() + t * kCols);
    to.push_back(y.data() + t * static_cast<std::size_t>(rows));
  }
  ThreadPool pool(1);
  Kernels kernels(pool);
  std::size_t next = 0;
  for (auto _ : state) {
    kernels.multiply(matrices[next].view(), from, to);
    next = next + 1 < matrices.size() ? next + 1 : 0;
    benchmark::ClobberMemory();
  }
  state.SetLabel(std::string(name(type)));
  state.SetBytesProcessed(state.iterations() * std::ssize(file));
  state.counters["weights*tokens/s"] =
      benchmark::Counter(static_cast<double>(state.iterations()) * rows * kCols * static_cast<double>(tokens),
                         benchmark::Counter::kIsRate);
}

void types_tokens_places(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"type", "tokens", "memory"});
  for (const int memory : {0, 1}) {
    for (const int tokens : {1, 2, 3, 16}) {
      if (memory && tokens > 1) continue;
      for (const TensorType type : kTensorTypes) bench->Args({static_cast<int>(type), tokens, memory});
    }
  }
}

// Rates are to be read as the most of some repeats: whatever else runs on the machine only slows them down.
double most(const std::vector<double>& values) {
  return *std::max_element(values.begin(), values.end());
}
BENCHMARK(Product)
    ->Apply(types_tokens_places)
    ->Unit(benchmark::kMicrosecond)
    ->MinTime(0.02)
    ->Repetitions(12)
    ->ReportAggregatesOnly()
    ->ComputeStatistics("most", most);

}  // namespace
}  // namespace expertscope

BENCHMARK_MAIN();
