// Which prefetches were for nothing. A prefetch was useful when a demand used what it brought (or waited for it) before
// it was lost again. While a run is on, one that may still be used is not wasted yet.
#include <algorithm>
#include <iterator>
#include <limits>
#include <map>
#include <tuple>

#include "profiler/metrics.h"

namespace expertscope {
namespace {

using ExpertOnDevice = std::tuple<std::uint8_t, std::uint16_t, std::uint16_t>;
constexpr std::uint32_t kNotAPrefetch = 0xffffffff;

struct Prefetch {
  std::uint32_t copy = 0;
  TimeNs issued_ns = 0;
  TimeNs end_ns = 0;                                    // of its last piece so far
  TimeNs lost_ns = std::numeric_limits<TimeNs>::max();  // first loss of the expert after that
  bool used = false;
};

struct Prefetches {
  std::vector<Prefetch> all;
  std::map<ExpertOnDevice, std::vector<std::uint32_t>>
      of_expert;                        // indices into all, in the order of their first pieces
  std::vector<std::uint32_t> of_piece;  // for each of trace.copies
};

Prefetches collect(const Trace& trace) {
  Prefetches found;
  found.of_piece.assign(trace.copies.size(), kNotAPrefetch);
  for (std::size_t i = 0; i < trace.copies.size(); ++i) {
    const CopyRecord& piece = trace.copies[i];
    if (piece.reason != CopyReason::prefetch || piece.lane != Lane::h2d) continue;
    auto& list = found.of_expert[{piece.device, piece.layer, piece.expert}];
    if (list.empty() || found.all[list.back()].copy != piece.copy) {
      list.push_back(static_cast<std::uint32_t>(found.all.size()));
      found.all.push_back({.copy = piece.copy, .issued_ns = piece.issued_ns});
    }
    found.all[list.back()].end_ns = piece.end_ns;
    found.of_piece[i] = list.back();
  }
  return found;
}

void mark_losses(const Trace& trace, Prefetches& prefetches) {
  for (const ResidencyRecord& change : trace.residency) {
    if (change.change == ResidencyChange::loaded) continue;
    const auto found = prefetches.of_expert.find({change.device, change.layer, change.expert});
    if (found == prefetches.of_expert.end()) continue;
    const auto& list = found->second;
    for (auto i = list.rbegin(); i != list.rend(); ++i) {
      Prefetch& p = prefetches.all[*i];
      if (p.lost_ns <= change.at_ns) break;
      if (p.end_ns <= change.at_ns) p.lost_ns = change.at_ns;
    }
  }
}

void mark_uses(const Trace& trace, Prefetches& prefetches) {
  for (const DemandRecord& demand : trace.demands) {
    if (!demand.prefetched && demand.state != DemandState::late) continue;
    const auto found = prefetches.of_expert.find({demand.device, demand.layer, demand.expert});
    if (found == prefetches.of_expert.end()) continue;
    // The newest that had been issued when the demand was served.
    const auto& list = found->second;
    const auto after = std::ranges::upper_bound(list, demand.ready_ns, {},
                                                [&](std::uint32_t i) { return prefetches.all[i].issued_ns; });
    if (after == list.begin()) continue;
    Prefetch& p = prefetches.all[*std::prev(after)];
    if (p.lost_ns >= demand.asked_ns) p.used = true;
  }
}

}  // namespace

std::vector<bool> wasted_prefetches(const Trace& trace) {
  std::vector<bool> wasted(trace.copies.size());
  Prefetches prefetches = collect(trace);
  if (prefetches.all.empty()) return wasted;
  mark_losses(trace, prefetches);
  mark_uses(trace, prefetches);
  for (std::size_t i = 0; i < trace.copies.size(); ++i) {
    if (prefetches.of_piece[i] == kNotAPrefetch) continue;
    const Prefetch& p = prefetches.all[prefetches.of_piece[i]];
    const bool lost = p.lost_ns != std::numeric_limits<TimeNs>::max();
    wasted[i] = !p.used && (lost || trace.ended);
  }
  return wasted;
}

}  // namespace expertscope
