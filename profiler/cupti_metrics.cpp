#include "profiler/cupti_metrics.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

#include <fmt/format.h>

#include "profiler/cupti_tracer.h"
#include "profiler/health.h"
#include "profiler/metrics.h"

namespace expertscope {
namespace {

constexpr double kWantedJoinedShare = 0.999;
constexpr TimeNs kWantedResidualNs = 50'000;

// All pieces of the copies of one tag, from the first one's begin to the last one's end.
struct Span {
  std::int64_t bytes = 0;
  TimeNs start_ns = std::numeric_limits<TimeNs>::max(), end_ns = 0;
  void add(std::int64_t more_bytes, TimeNs start, TimeNs end) {
    bytes += more_bytes;
    start_ns = std::min(start_ns, start);
    end_ns = std::max(end_ns, end);
  }
};

struct Piece {
  std::uint64_t tag;
  bool by_cupti;
  std::int64_t bytes;
  TimeNs start_ns, end_ns;
};

bool is_expert_copy_by_cupti(const GpuCopyRecord& copy) {
  if (copy.tag == 0 || copy.copy_kind != kCopyHostToDevice) return false;
  const LaunchTag tag = unpack_tag(copy.tag);
  return tag.is_copy && is_expert_copy(tag.reason);
}

std::vector<Piece> expert_copy_pieces(const Trace& trace) {
  std::vector<Piece> pieces;
  for (const GpuCopyRecord& c : trace.gpu_copies)
    if (c.start_ns != 0 && is_expert_copy_by_cupti(c)) pieces.push_back({c.tag, true, c.bytes, c.start_ns, c.end_ns});
  for (const CopyRecord& c : trace.copies) {
    if (c.lane != Lane::h2d || !is_expert_copy(c.reason)) continue;
    const LaunchTag tag{.step = c.step, .layer = c.layer, .expert = c.expert, .is_copy = true, .reason = c.reason};
    pieces.push_back({pack(tag), false, c.bytes, c.start_ns, c.end_ns});
  }
  std::ranges::sort(pieces, {}, &Piece::tag);
  return pieces;
}

TimeNs median(std::vector<TimeNs>& values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

}  // namespace

CuptiResidual cupti_residual(const Trace& trace) {
  CuptiResidual result;
  std::vector<TimeNs> residuals, shifts;
  const std::vector<Piece> pieces = expert_copy_pieces(trace);
  for (std::size_t i = 0; i < pieces.size();) {
    Span cupti, engine;
    const std::uint64_t tag = pieces[i].tag;
    for (; i < pieces.size() && pieces[i].tag == tag; ++i)
      (pieces[i].by_cupti ? cupti : engine).add(pieces[i].bytes, pieces[i].start_ns, pieces[i].end_ns);
    if (cupti.bytes == 0 || cupti.bytes != engine.bytes) continue;
    const TimeNs begin = engine.start_ns - cupti.start_ns, end = engine.end_ns - cupti.end_ns;
    residuals.push_back(std::max(std::abs(begin), std::abs(end)));
    shifts.push_back(begin / 2 + end / 2);
  }
  result.copies = residuals.size();
  if (residuals.empty()) return result;
  result.max_ns = std::ranges::max(residuals);
  result.median_ns = median(residuals);
  result.shift_median_ns = median(shifts);
  return result;
}

CuptiNumbers cupti_numbers(const Trace& trace) {
  CuptiNumbers n;
  n.recorded = trace.wall.contains(cupti_fact::kVersion);
  if (!n.recorded) return n;
  n.kernels = trace.gpu_totals.kernels;
  n.joined_kernels = trace.gpu_totals.joined_kernels;
  n.copies = trace.gpu_copies.size();
  for (const GpuCopyRecord& copy : trace.gpu_copies) {
    n.joined_copies += copy.tag != 0 ? 1 : 0;
    if (is_expert_copy_by_cupti(copy)) n.expert_copy_bytes += copy.bytes;
  }
  n.engine_copy_bytes = count_transfers(trace).bytes;
  if (const auto note = trace.health.find(health_code::kCuptiDropped); note != trace.health.end())
    n.dropped = note->second.count;
  n.bytes_are_comparable = trace.ended && n.dropped == 0 && !trace.health.contains(health_code::kEventsDropped) &&
                           !trace.health.contains(health_code::kRowsSkipped);
  return n;
}

std::vector<HealthNote> cupti_notes(const Trace& trace) {
  std::vector<HealthNote> notes;
  const CuptiNumbers n = cupti_numbers(trace);
  if (!n.recorded) return notes;
  if (n.joined_share() < kWantedJoinedShare) {
    const std::uint64_t unjoined = n.kernels + n.copies - n.joined_kernels - n.joined_copies;
    notes.push_back({health_code::kCuptiUnjoined, Severity::warning, unjoined,
                     fmt::format("{} of {} kernels and copies are joined to no step, layer and reason.", unjoined,
                                 n.kernels + n.copies)});
  }
  if (const CuptiResidual residual = cupti_residual(trace); residual.median_ns > kWantedResidualNs) {
    notes.push_back({health_code::kCuptiClock, Severity::warning, 1,
                     fmt::format("The engine's times of copies lie {} us from CUPTI's (median of {} copies).",
                                 residual.median_ns / 1000, residual.copies)});
  }
  return notes;
}

}  // namespace expertscope
