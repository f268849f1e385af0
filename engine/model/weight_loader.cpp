#include "engine/model/weight_loader.h"

#include <algorithm>
#include <system_error>
#include <thread>
#include <utility>

#include "engine/assert.h"

namespace expertscope {

namespace {

// Large enough for the file system to be asked rarely, small enough for the last pieces to end together.
constexpr std::int64_t kPieceBytes = 4 * 1024 * 1024;
// Blocks that have to be split go through a buffer that stays in a core's cache.
constexpr std::int64_t kSplitBytes = 256 * 1024;

std::int64_t whole_blocks(TensorType type, std::int64_t bytes) {
  return std::max<std::int64_t>(bytes / block_bytes(type), 1) * block_values(type);
}

}  // namespace

void WeightLoader::add(const GgufTensor& tensor, std::int64_t first, std::int64_t values, std::byte* quants,
                       std::byte* scales) {
  const TensorType type = tensor.type;
  ES_ASSERT(first % block_values(type) == 0 && values % block_values(type) == 0 && first + values <= tensor.values,
            "whole blocks of the tensor");
  const std::int64_t per_piece = whole_blocks(type, kPieceBytes);
  for (std::int64_t done = 0; done < values; done += per_piece) {
    pieces_.push_back({&tensor, tensor_bytes(type, first + done), std::min(per_piece, values - done),
                       quants + quants_bytes(type, done),
                       has_scales_plane(type) ? scales + scales_bytes(type, done) : nullptr});
  }
}

WeightMatrix WeightLoader::add_matrix(const GgufTensor& tensor) {
  const int cols = static_cast<int>(tensor.shape[0]);
  WeightMatrix matrix(tensor.type, static_cast<int>(tensor.values / cols), cols);
  add(tensor, 0, tensor.values, matrix.quants(), matrix.scales());
  return matrix;
}

void WeightLoader::run(int threads) {
  const auto helpers = static_cast<std::size_t>(std::max(threads, 1)) - 1;
  {
    std::vector<std::jthread> workers;
    try {
      while (workers.size() < std::min(helpers, pieces_.size())) workers.emplace_back([this] { work(); });
    } catch (const std::system_error&) {
      // The machine gives us no more threads; those that are there will do.
    }
    work();
  }
  pieces_.clear();
  next_ = 0;
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

void WeightLoader::work() {
  std::vector<std::byte> scratch;
  for (std::size_t i = next_++; i < pieces_.size(); i = next_++) {
    try {
      load(pieces_[i], scratch);
    } catch (...) {
      next_ = pieces_.size();  // nobody starts another; all pieces before this one have been started
      std::lock_guard lock(mutex_);
      if (!failure_ || i < failed_piece_) {
        failure_ = std::current_exception();
        failed_piece_ = i;
      }
    }
  }
}

void WeightLoader::load(const Piece& piece, std::vector<std::byte>& scratch) const {
  read(piece, scratch);
  if (!keeps_cached_) file_.uncache(*piece.tensor, piece.offset, tensor_bytes(piece.tensor->type, piece.values));
}

void WeightLoader::read(const Piece& piece, std::vector<std::byte>& scratch) const {
  const TensorType type = piece.tensor->type;
  if (!has_scales_plane(type)) {
    const auto bytes = static_cast<std::size_t>(tensor_bytes(type, piece.values));
    file_.read(*piece.tensor, piece.offset, {piece.quants, bytes});
    return;
  }
  const std::int64_t per_step = whole_blocks(type, kSplitBytes);
  for (std::int64_t done = 0; done < piece.values; done += per_step) {
    const std::int64_t values = std::min(per_step, piece.values - done);
    scratch.resize(static_cast<std::size_t>(tensor_bytes(type, values)));
    file_.read(*piece.tensor, piece.offset + tensor_bytes(type, done), scratch);
    split_into_planes(type, values, scratch.data(), piece.quants + quants_bytes(type, done),
                      piece.scales + scales_bytes(type, done));
  }
}

}  // namespace expertscope
