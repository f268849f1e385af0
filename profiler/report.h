// The headline numbers of a session as JSON with stable keys, SI base units named in the key. The same from a live run
// and from its file; everything that may differ between two equal runs is under "wall".
#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "profiler/metrics.h"
#include "profiler/trace.h"

namespace expertscope {

inline constexpr int kReportSchemaVersion = 1;

nlohmann::ordered_json make_report(const Trace&);

// Blocks of the report by themselves, for a selection, an epoch or a replayed run.
nlohmann::ordered_json prefill_block(const Trace&, TimeRange = {});
nlohmann::ordered_json experts_block(const ExpertCounts&);
nlohmann::ordered_json transfers_block(const Trace&, TimeRange = {});
nlohmann::ordered_json decode_block(const Trace&, TimeRange = {});
nlohmann::ordered_json attribution_block(const Trace&, TimeRange = {});
// How picks are spread over several GPUs; null where there is one.
nlohmann::ordered_json balance_block(const Trace&, TimeRange = {});

// Bytes as text that any JSON reader takes: what is not valid UTF-8 becomes U+FFFD.
std::string valid_utf8(std::string_view bytes);

}  // namespace expertscope
