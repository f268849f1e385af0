// The parts of a prior that are counted from recorded texts.
#pragma once

#include "engine/learn/recorded_texts.h"
#include "engine/policy/prior.h"

namespace expertscope {

// Fills popularity, transitions, activations, look-ahead recall, weight quantiles and the numbers of tokens. Shares are
// rounded to a millionth.
void count_routes(const RecordedTexts&, Prior&);

}  // namespace expertscope
