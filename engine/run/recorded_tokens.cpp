#include "engine/run/recorded_tokens.h"

#include <algorithm>

namespace expertscope {

RecordedTokens::RecordedTokens(std::span<const TokenRecord> tokens, std::span<const PromptRecord> prompts, int context)
    : half_context_(static_cast<std::size_t>(context / 2)) {
  for (const PromptRecord& prompt : prompts)
    texts_[prompt.prompt].sequence = static_cast<std::int32_t>(prompt.sequence);
  for (const TokenRecord& token : tokens) {
    texts_[token.prompt].ids.push_back(token.id);
    if (token.generated) sampled_for_[token.step].push_back(token.prompt);
  }
}

TokenInput RecordedTokens::next_of(Text& text) {
  const std::size_t at = text.forwarded++;
  return {.id = at < text.ids.size() ? text.ids[at] : 0,
          .sequence = text.sequence,
          .position = static_cast<std::int32_t>(at - text.first)};
}

std::vector<TokenInput> RecordedTokens::of(const StepRecord& step) {
  std::vector<TokenInput> tokens;
  if (step.prompt == kSeveralPrompts) {
    const std::vector<std::uint32_t>& prompts = sampled_for_[step.step];
    for (std::size_t i = 0; i < step.tokens; ++i)
      tokens.push_back(i < prompts.size() ? next_of(texts_[prompts[i]]) : TokenInput{});
  } else {
    Text& text = texts_[step.prompt];
    if (step.first_position == 0) text.first = text.forwarded - std::min(text.forwarded - text.first, half_context_);
    text.forwarded = text.first + step.first_position;
    for (std::size_t i = 0; i < step.tokens; ++i) tokens.push_back(next_of(text));
  }
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i].wants_logits = i + step.logits >= tokens.size();
  return tokens;
}

}  // namespace expertscope
