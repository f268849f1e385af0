// A run without a window: the engine on its own thread, its records into a session file and a trace, a report at the
// end.
#pragma once

#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include "app/run_plan.h"

namespace expertscope {

struct HeadlessResult {
  nlohmann::ordered_json report;
  // Why the run ended early although it is in order up to there: a signal. Then not everything that was asked for was
  // done.
  std::optional<std::string> interrupted;
};

// `out` is the session file, "" for none. Blocks until all is done and the file is closed. InputError when parts of the
// plan do not fit together or the file cannot be made; RunError when the run failed: what was committed until then
// stays readable.
HeadlessResult run_headless(const RunPlan&, const std::string& out);

}  // namespace expertscope
