// Sums that must hold in every session, prefill and decode apart. They catch an engine or a recording that lies.
#pragma once

#include <string>
#include <vector>

#include "profiler/trace.h"

namespace expertscope {

struct Violation {
  std::string identity;  // stable name: "hits_late_misses", "picks_per_token"
  std::string text;      // one sentence with the numbers
};

// Empty when all hold. Looks at complete steps; what a killed run left unfinished violates nothing.
std::vector<Violation> check_identities(const Trace&);

}  // namespace expertscope
