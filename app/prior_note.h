#pragma once

#include <optional>
#include <string>

#include "engine/observer.h"
#include "engine/policy/prior.h"

namespace expertscope {

// What health says of a prior that was learned from another file than the model's. Nothing where that is not known.
std::optional<HealthNote> note_of_prior(const Prior&, const std::string& model_sha256);

}  // namespace expertscope
