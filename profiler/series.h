// One summary a step, kept up to date while the trace grows, and curves drawn from them: what the strips show.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "profiler/attribution.h"
#include "profiler/metrics.h"
#include "profiler/trace.h"

namespace expertscope {

struct StepSummary {
  TimeNs start_ns = 0, end_ns = 0;
  std::uint32_t step = 0, epoch = 0;
  std::uint32_t first_generated = 0;  // generated tokens before it
  std::uint32_t tokens = 0;           // decode: sampled; prefill: forwarded
  std::uint32_t demands = 0, hits = 0;
  Phase phase = Phase::prefill;
  std::int64_t link_bytes = 0;  // expert copies' bytes, by the share of each piece that lies in the step
  TimeNs copy_ns = 0, copy_hidden_ns = 0;
  std::array<TimeNs, kTimeParts> part_ns{};  // its attribution
  TimeNs stall_ns() const;                   // exposed: demand_wait + prefetch_wait
};

// Summaries of all complete steps of one trace.
class StepSummaries {
 public:
  // Catches up with the trace, at a cost that grows with what is new. A copy that was still on its way when its step
  // ended changes that step's summary once it arrives.
  void update(const Trace&);
  std::span<const StepSummary> steps() const { return summaries_; }

 private:
  std::vector<StepSummary> summaries_;
  std::size_t works_seen_ = 0, copies_seen_ = 0;
};

enum class Curve : std::uint8_t {
  tokens_per_s,
  hit_rate,
  link_bytes_per_s,
  copy_hidden_share,
  stall_s_per_token,
  gpu_busy_share
};
enum class CurveAxis : std::uint8_t { time_ns, generated_token };

struct CurveBin {
  double x = 0;                       // middle of the bin: ns, or generated tokens
  double min = 0, mean = 0, max = 0;  // over its steps; the mean is weighted by what the rate is per
  std::uint32_t steps = 0;            // 0: nothing there, no values
};

// Bins of equal width over [begin, end) of the axis; a step belongs to the bin in which it ends. Decode steps only: a
// prompt's chunk has no token rate to compare.
std::vector<CurveBin> bin_curve(std::span<const StepSummary>, Curve, CurveAxis, double begin, double end, int bins);

}  // namespace expertscope
