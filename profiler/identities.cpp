#include "profiler/identities.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "profiler/attribution.h"
#include "profiler/cupti_metrics.h"
#include "profiler/metrics.h"

namespace expertscope {
namespace {

using Violations = std::vector<Violation>;

void check_sums(const Trace& trace, Phase phase, Violations& out) {
  const ExpertCounts c = count_experts(trace, phase);
  if (c.hits + c.late + c.misses != c.demands) {
    out.push_back({"hits_late_misses", fmt::format("In {}, {} hits, {} late and {} misses do not add up to {} demands.",
                                                   name(phase), c.hits, c.late, c.misses, c.demands)});
  }
  const std::uint64_t outcomes = c.gpu + c.fetched + c.streamed + c.cpu + c.cpu_early + c.skipped + c.substituted;
  if (outcomes != c.demands) {
    out.push_back(
        {"outcomes", fmt::format("In {}, {} outcomes do not add up to {} demands.", name(phase), outcomes, c.demands)});
  }
}

// Every step: top-k picks for each token in each layer, all of them served by demands, each expert demanded once a
// layer.
void check_picks(const Trace& trace, Violations& out) {
  std::array<std::uint64_t, 2> wrong{}, doubled{}, first_wrong_step{};
  const auto per_token = static_cast<std::uint64_t>(trace.info.top_k) * static_cast<std::uint64_t>(trace.info.layers);
  std::set<ExpertId> seen;
  for (const StepRecord& step : trace.steps) {
    const auto phase = static_cast<std::size_t>(step.phase);
    std::uint64_t picks = 0;
    seen.clear();
    for (const DemandRecord& demand : trace.demands_of(step.step)) {
      picks += demand.picks;
      if (!seen.insert({demand.layer, demand.expert}).second) ++doubled[phase];
    }
    if (picks == per_token * step.tokens) continue;
    if (wrong[phase]++ == 0) first_wrong_step[phase] = step.step;
  }
  for (const Phase phase : {Phase::prefill, Phase::decode}) {
    const auto p = static_cast<std::size_t>(phase);
    if (wrong[p] > 0) {
      out.push_back(
          {"picks_per_token",
           fmt::format("In {} steps of {}, first in step {}, the demands do not serve {} picks for each token.",
                       wrong[p], name(phase), first_wrong_step[p], per_token)});
    }
    if (doubled[p] > 0) {
      out.push_back(
          {"demands_distinct", fmt::format("In {}, an expert was demanded twice in one layer of one step {} times.",
                                           name(phase), doubled[p])});
    }
  }
}

void check_bytes(const Trace& trace, Violations& out) {
  const TransferTotals t = count_transfers(trace);
  const std::int64_t by_reason = t.demand_bytes + t.prefetch_bytes + t.promotion_bytes + t.placement_bytes;
  if (by_reason != t.bytes) {
    out.push_back(
        {"bytes_by_reason", fmt::format("Expert copies of {} bytes by reason, but {} in all.", by_reason, t.bytes)});
  }
  if (t.wasted_prefetch_bytes > t.prefetch_bytes) {
    out.push_back({"wasted_prefetches", fmt::format("{} bytes of wasted prefetches, but only {} were prefetched.",
                                                    t.wasted_prefetch_bytes, t.prefetch_bytes)});
  }
}

// A slot holds one expert at a time and loses what it holds: then loads minus losses are the residents.
void check_residency(const Trace& trace, Violations& out) {
  std::map<std::pair<std::uint8_t, std::uint16_t>, ExpertId> occupant;
  std::uint64_t loads = 0, losses = 0, overwritten = 0, lost_elsewhere = 0;
  for (const ResidencyRecord& change : trace.residency) {
    const std::pair slot(change.device, change.slot);
    const ExpertId expert{change.layer, change.expert};
    const auto held = occupant.find(slot);
    if (change.change == ResidencyChange::loaded) {
      ++loads;
      if (held != occupant.end()) ++overwritten;
      occupant[slot] = expert;
    } else {
      ++losses;
      if (held == occupant.end() || held->second != expert) ++lost_elsewhere;
      if (held != occupant.end()) occupant.erase(held);
    }
  }
  if (overwritten > 0) {
    out.push_back({"slots_hold_one", fmt::format("{} loads went into slots that still held an expert.", overwritten)});
  }
  if (lost_elsewhere > 0) {
    out.push_back(
        {"losses_were_loaded", fmt::format("{} experts were lost from slots that did not hold them.", lost_elsewhere)});
  }
  if (loads - losses != occupant.size()) {
    out.push_back(
        {"loads_losses_residents", fmt::format("{} loads less {} losses are not the {} experts that are resident.",
                                               loads, losses, occupant.size())});
  }
  if (trace.epochs.empty()) return;
  // Experts that were copied early may wait in staging slots.
  const std::int64_t staging =
      trace.info.expert_bytes > 0 ? trace.info.memory.staging_bytes / trace.info.expert_bytes : 0;
  const std::uint64_t slots = trace.epochs.back().slots + static_cast<std::uint64_t>(staging);
  if (occupant.size() > slots) {
    out.push_back({"residents_fit", fmt::format("{} experts are resident in {} slots.", occupant.size(), slots)});
  }
}

void check_lanes(const Trace& trace, Violations& out) {
  for (const auto& [key, index] : trace.lanes()) {
    std::uint64_t overlaps = 0;
    TimeNs first_ns = 0;
    const auto items = index.items();
    for (std::size_t i = 1; i < items.size(); ++i) {
      if (items[i].start_ns < items[i - 1].end_ns && overlaps++ == 0) first_ns = items[i].start_ns;
    }
    if (overlaps > 0) {
      out.push_back({"lanes_do_not_overlap",
                     fmt::format("On lane {} {}, {} intervals begin before the one before has ended, first at {} ns.",
                                 name(key.lane), key.device, overlaps, first_ns)});
    }
  }
  std::uint64_t overlapping_steps = 0;
  for (std::size_t i = 1; i < trace.steps.size(); ++i) {
    if (trace.steps[i].start_ns < trace.steps[i - 1].end_ns) ++overlapping_steps;
  }
  if (overlapping_steps > 0) {
    out.push_back(
        {"steps_do_not_overlap", fmt::format("{} steps begin before the one before has ended.", overlapping_steps)});
  }
}

void check_attribution(const Trace& trace, Violations& out) {
  const TimeNs parts_ns = attribute_decode(trace).total_ns(), steps_ns = decode_numbers(trace).decode_ns;
  if (parts_ns != steps_ns) {
    out.push_back({"attribution_sums",
                   fmt::format("The parts of decode add up to {} ns, its steps to {} ns.", parts_ns, steps_ns)});
  }
}

// What the device's own tracer saw of expert copies is what the engine says of them, byte for byte.
void check_copies_by_cupti(const Trace& trace, Violations& out) {
  const CuptiNumbers n = cupti_numbers(trace);
  if (n.recorded && n.bytes_are_comparable && !n.bytes_are_equal()) {
    out.push_back({"cupti_expert_bytes", fmt::format("CUPTI saw expert copies of {} bytes, the engine says {}.",
                                                     n.expert_copy_bytes, n.engine_copy_bytes)});
  }
}

}  // namespace

std::vector<Violation> check_identities(const Trace& trace) {
  Violations found;
  check_sums(trace, Phase::prefill, found);
  check_sums(trace, Phase::decode, found);
  if (trace.started) check_picks(trace, found);
  check_bytes(trace, found);
  check_residency(trace, found);
  check_lanes(trace, found);
  check_attribution(trace, found);
  check_copies_by_cupti(trace, found);
  return found;
}

}  // namespace expertscope
