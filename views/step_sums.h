// Steps added up: the live numbers, and what a strip says about the range it shows. Pure.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "profiler/series.h"

namespace expertscope {

struct StepSums {
  TimeNs time_ns = 0, stall_ns = 0;
  std::int64_t link_bytes = 0;
  std::uint64_t tokens = 0, demands = 0, hits = 0, steps = 0;
  std::array<TimeNs, kTimeParts> part_ns{};

  void add(const StepSummary&);
  double tokens_per_s() const {
    return time_ns > 0 ? static_cast<double>(tokens) * 1e9 / static_cast<double>(time_ns) : 0;
  }
  double hit_rate() const { return demands > 0 ? static_cast<double>(hits) / static_cast<double>(demands) : 0; }
  double link_bytes_per_s() const {
    return time_ns > 0 ? static_cast<double>(link_bytes) * 1e9 / static_cast<double>(time_ns) : 0;
  }
  double stall_ns_per_token() const {
    return tokens > 0 ? static_cast<double>(stall_ns) / static_cast<double>(tokens) : 0;
  }
};

// Summaries that overlap the range.
std::span<const StepSummary> steps_within(std::span<const StepSummary>, TimeRange);
// Decode steps alone; of all given, or of the last ones that hold so many tokens.
StepSums decode_sums(std::span<const StepSummary>);
StepSums recent_decode_sums(std::span<const StepSummary>, std::uint64_t tokens);

// What holds the tokens back, in a word for people: the group of parts that takes most of the time.
struct Bottleneck {
  std::string name;    // "link", "GPU", "CPU experts", "host", "unrecorded time"; "" when there is no time
  std::string detail;  // "waiting for expert copies"
  double share = 0;
};
Bottleneck bottleneck(const std::array<TimeNs, kTimeParts>&);

}  // namespace expertscope
