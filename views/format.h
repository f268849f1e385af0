// Numbers for people: three significant digits and a unit. Pure functions; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "engine/ids.h"

namespace expertscope {

// "1.24", "12.4", "124", "1240": three significant digits, never an exponent below a million.
std::string format_significant(double value);
// Scaled by powers of ten: format_si(33.1e9, "B/s") == "33.1 GB/s". Values under 1 are scaled down to n, µ, m.
std::string format_si(double value, std::string_view unit);
std::string format_duration(TimeNs ns);         // "812 ns", "1.24 ms", "3.20 s"; negative with a minus
std::string format_bytes(double bytes);         // "4.75 GB", powers of ten
std::string format_rate(double bytes_per_s);    // "33.1 GB/s"
std::string format_percent(double share);       // 0.713 -> "71.3 %"
std::string format_ratio(double ratio);         // "0.25", "0.125": as short as says it
std::string format_count(std::uint64_t count);  // "1,204,331"
std::string format_tokens_per_s(double rate);   // "18.4 tok/s"

// A time on an axis whose ticks are `step_ns` apart: just as many digits as tell two ticks apart ("1.250 s").
std::string format_axis_time(TimeNs t, TimeNs step_ns);

}  // namespace expertscope
