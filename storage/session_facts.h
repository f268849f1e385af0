// RunInfo as rows of the table `session`, and back. Internal to storage/.
#pragma once

#include <map>
#include <string>

#include "engine/run_info.h"

namespace expertscope {

using SessionFacts = std::map<std::string, std::string>;

inline constexpr const char* kEndStateKey = "end_state";  // there once the run closed the session in order
inline constexpr const char* kEnded = "ended";
inline constexpr const char* kProducerKey = "producer";

SessionFacts facts_of(const RunInfo&);
// InputError names the fact that makes no sense (a number that is none, or is out of range). Unknown keys are left
// alone.
RunInfo run_info_of(const SessionFacts&);

}  // namespace expertscope
