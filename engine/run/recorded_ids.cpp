#include "engine/run/recorded_ids.h"

#include <algorithm>

namespace expertscope {

RecordedIds::RecordedIds(std::span<const TokenRecord> tokens, int context)
    : half_context_(static_cast<std::size_t>(context / 2)) {
  for (const TokenRecord& token : tokens) texts_[token.prompt].ids.push_back(token.id);
}

std::vector<std::int32_t> RecordedIds::of(const StepRecord& step) {
  std::vector<std::int32_t> ids(step.tokens, 0);
  const auto it = texts_.find(step.prompt);
  if (it == texts_.end()) return ids;
  Text& text = it->second;
  if (step.first_position == 0) text.first = text.forwarded - std::min(text.forwarded - text.first, half_context_);
  const std::size_t begin = text.first + step.first_position;
  for (std::size_t i = 0; i < ids.size() && begin + i < text.ids.size(); ++i) ids[i] = text.ids[begin + i];
  text.forwarded = std::max(text.forwarded, begin + ids.size());
  return ids;
}

}  // namespace expertscope
