// Brings the weights of a model from its file to where they belong, on many threads. First everything is added, then
// run() reads it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <mutex>
#include <vector>

#include "engine/model/gguf_reader.h"
#include "engine/model/weight_matrix.h"

namespace expertscope {

class WeightLoader {
 public:
  // What is read stays in the system's cache of files unless told otherwise.
  explicit WeightLoader(const GgufReader& file, bool keeps_cached = true) : file_(file), keeps_cached_(keeps_cached) {}

  // Values [first, first + values) of the tensor, whole blocks, go to the two planes; `scales` may be null when the
  // type has none. The planes stay where they are until run() has returned.
  void add(const GgufTensor& tensor, std::int64_t first, std::int64_t values, std::byte* quants, std::byte* scales);

  // The whole tensor as a matrix of rows of shape[0] values. Its planes are filled by run().
  WeightMatrix add_matrix(const GgufTensor& tensor);

  // Reads what was added, on `threads` threads of which the caller is one. When reading fails, throws the InputError of
  // the first piece, in the order of adding, that could not be read.
  void run(int threads);

 private:
  // A part of a tensor that one thread reads at a time.
  struct Piece {
    const GgufTensor* tensor;
    std::int64_t offset;  // in the tensor's bytes
    std::int64_t values;
    std::byte *quants, *scales;
  };

  void work();
  void load(const Piece& piece, std::vector<std::byte>& scratch) const;
  void read(const Piece& piece, std::vector<std::byte>& scratch) const;

  const GgufReader& file_;
  bool keeps_cached_;
  std::vector<Piece> pieces_;
  std::atomic<std::size_t> next_{0};
  std::mutex mutex_;  // guards the two below
  std::size_t failed_piece_ = 0;
  std::exception_ptr failure_;
};

}  // namespace expertscope
