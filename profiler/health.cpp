#include "profiler/health.h"

#include <algorithm>
#include <utility>

#include "profiler/cupti_metrics.h"
#include "profiler/identities.h"

namespace expertscope {

std::string_view name(Severity severity) {
  switch (severity) {
    case Severity::info:
      return "info";
    case Severity::warning:
      return "warning";
    case Severity::loss:
      return "loss";
  }
  return "?";
}

std::vector<HealthNote> health_of(const Trace& trace) {
  std::map<std::string, HealthNote> notes = trace.health;
  if (!trace.ended) {
    notes[health_code::kNotEnded] = {
        health_code::kNotEnded, Severity::info, 1,
        "The session was not closed: it is still being written, or its run was interrupted."};
  }
  for (HealthNote& note : cupti_notes(trace)) notes[note.code] = std::move(note);
  for (const Violation& violation : check_identities(trace)) {
    const std::string code = health_code::kIdentity + violation.identity;
    HealthNote& note = notes[code];
    const bool again = !note.text.empty() && note.text != violation.text;
    note = {code, Severity::warning, 1, again ? note.text + " " + violation.text : violation.text};
  }
  std::vector<HealthNote> result;
  for (auto& [code, note] : notes) result.push_back(std::move(note));
  std::ranges::stable_sort(result, std::ranges::greater{}, &HealthNote::severity);
  return result;
}

}  // namespace expertscope
