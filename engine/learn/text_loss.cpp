#include "engine/learn/text_loss.h"

#include <utility>

#include "engine/error.h"
#include "engine/model/likelihood.h"

namespace expertscope {
namespace {

constexpr int kChunk = 128;  // tokens of a step; all of their logits are wanted

}  // namespace

TextLoss::TextLoss(const Model& model, ThreadPool& pool, std::span<const std::vector<std::int32_t>> texts,
                   std::int64_t readings, LearnProgress progress)
    : texts_(texts), progress_(std::move(progress)), pass_(model, pool, kChunk, 1) {
  for (const std::vector<std::int32_t>& ids : texts) {
    all_ += static_cast<std::int64_t>(ids.size()) * readings;
    if (!ids.empty()) predicted_ += static_cast<std::int64_t>(ids.size()) - 1;
  }
}

double TextLoss::measure() {
  double sum = 0;
  for (const std::vector<std::int32_t>& ids : texts_) {
    pass_.reset_sequence(0);
    pass_.forward(0, ids, true, [&](std::size_t first, std::size_t count) {
      for (std::size_t i = 0; i < count && first + i + 1 < ids.size(); ++i)
        sum += negative_log_likelihood(pass_.logits(static_cast<int>(i)), ids[first + i + 1]);
      done_ += static_cast<std::int64_t>(count);
      if (progress_ && !progress_(done_, all_)) throw RunError("learning was interrupted");
    });
  }
  return sum / static_cast<double>(predicted_);
}

}  // namespace expertscope
