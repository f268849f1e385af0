// The routes of texts, as forward passes of the model alone took them: what a prior is counted from.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "engine/model/model.h"
#include "engine/model/thread_pool.h"

namespace expertscope {

// A prompt and what the model went on with.
struct RecordedText {
  std::size_t prompt = 0;            // index of its prompt
  bool first_of_prompt = true;       // else the same prompt was recorded before, with another continuation
  std::vector<std::int32_t> ids;     // forwarded: the prompt's, then generated ones
  std::size_t prompt_tokens = 0;     // of them
  std::vector<std::uint16_t> picks;  // [token][layer][rank]
  std::vector<float> weights;        // alike, renormalised to sum to 1 over a token's ranks
};

struct RecordedTexts {
  int layers = 0, experts = 0, top_k = 0;
  std::vector<RecordedText> texts;
  // [d - 1][layer]: how many of a token's picks in `layer` were among the top-k of its gate on the input of layer - d,
  // over all forwarded tokens, of which there are `forwarded`.
  std::vector<std::vector<std::int64_t>> lookahead_found;
  std::int64_t forwarded = 0;
  std::int64_t cut_prompts = 0;  // did not fit the context together with what was to be generated

  std::span<const std::uint16_t> picks(const RecordedText& text, std::size_t token, int layer) const {
    const auto k = static_cast<std::size_t>(top_k);
    return std::span(text.picks)
        .subspan((token * static_cast<std::size_t>(layers) + static_cast<std::size_t>(layer)) * k, k);
  }
};

struct RecordingRule {
  int generate = 0;        // tokens that each text goes on with
  int continuations = 1;   // of each prompt, drawn differently
  double temperature = 1;  // of the draws
  std::uint64_t seed = 0;
};

// Called with forwarded tokens and how many there will be; false ends the work.
using LearnProgress = std::function<bool(std::int64_t done, std::int64_t all)>;

// Texts in the order of prompts, a prompt's continuations together; all continuations hold the prompt's routes. Prompts
// must not be empty. Nothing depends on the number of threads. Throws RunError when progress ends it.
RecordedTexts record_texts(const Model&, ThreadPool&, std::span<const std::vector<std::int32_t>> prompts,
                           const RecordingRule&, const LearnProgress&);

}  // namespace expertscope
