// What was lost, fell back or was ignored while a session was made or read: named, counted, with a sentence for people.
#pragma once

#include <string>
#include <vector>

#include "engine/observer.h"
#include "profiler/trace.h"

namespace expertscope {

// Codes that the profiler and the storage use; the engine has its own ("static.no_prior").
namespace health_code {
inline constexpr const char* kEventsDropped = "recorder.events_dropped";
inline constexpr const char* kCuptiDropped = "cupti.records_dropped";
inline constexpr const char* kCuptiNoTimes = "cupti.no_times";
inline constexpr const char* kCuptiUnjoined = "cupti.unjoined";
inline constexpr const char* kCuptiClock = "cupti.clock_residual";
inline constexpr const char* kRowsSkipped = "session.rows_skipped";
inline constexpr const char* kNotEnded = "session.not_ended";
inline constexpr const char* kIdentity = "identity.";  // + name of the identity
}  // namespace health_code

// The trace's own notes, a note when a session was not closed in order, and one for every identity that does not hold.
// Worst first, then by code.
std::vector<HealthNote> health_of(const Trace&);

std::string_view name(Severity);  // "info", "warning", "loss"

}  // namespace expertscope
