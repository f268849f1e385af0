#include "app/prior_note.h"

#include <fmt/format.h>

namespace expertscope {

std::optional<HealthNote> note_of_prior(const Prior& prior, const std::string& model_sha256) {
  if (prior.model_sha256.empty() || prior.model_sha256 == model_sha256) return std::nullopt;
  return HealthNote{"prior.other_model", Severity::warning, 1,
                    fmt::format("The prior was learned from another model file ({}): what it says of experts need not "
                                "hold for this one; learn it anew with `expertscope learn`.",
                                prior.model_name)};
}

}  // namespace expertscope
