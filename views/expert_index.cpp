#include "views/expert_index.h"

#include <algorithm>

namespace expertscope {
namespace {

constexpr std::size_t kSpacing = 65536;

// Records come in the order of these times; two lanes of a real machine may differ by less than one can see.
std::size_t first_demand_at(const Trace& trace, TimeNs t) {
  const auto at = std::partition_point(trace.demands.begin(), trace.demands.end(),
                                       [&](const DemandRecord& r) { return r.asked_ns < t; });
  return static_cast<std::size_t>(at - trace.demands.begin());
}
std::size_t first_copy_at(const Trace& trace, TimeNs t) {
  const auto at = std::partition_point(trace.copies.begin(), trace.copies.end(),
                                       [&](const CopyRecord& r) { return r.start_ns < t; });
  return static_cast<std::size_t>(at - trace.copies.begin());
}
std::size_t first_residency_after(const Trace& trace, TimeNs t) {
  const auto at = std::partition_point(trace.residency.begin(), trace.residency.end(),
                                       [&](const ResidencyRecord& r) { return r.at_ns <= t; });
  return static_cast<std::size_t>(at - trace.residency.begin());
}

const auto kAddDemand = [](auto& sums, const DemandRecord& r) { sums.add(r); };
const auto kAddCopy = [](std::int64_t& bytes, const CopyRecord& r) {
  bytes += r.lane == Lane::h2d && is_expert_copy(r.reason) ? r.bytes : 0;
};
const auto kAddChange = [](auto& state, const ResidencyRecord& r) { state.apply(r); };

}  // namespace

void ExpertIndex::DemandSums::add(const DemandRecord& r) {
  ++demands;
  picks += r.picks;
  hits += r.state == DemandState::hit;
  late += r.state == DemandState::late;
  misses += r.state == DemandState::miss;
  cpu += r.outcome == Outcome::cpu || r.outcome == Outcome::cpu_early;
  skipped += r.outcome == Outcome::skipped;
  substituted += r.outcome == Outcome::substituted;
  early += r.outcome == Outcome::cpu_early;
  low_precision += r.precision != Precision::native;
}

void ExpertIndex::Residency::apply(const ResidencyRecord& r) {
  if (r.change == ResidencyChange::loaded) {
    if (copies++ == 0) since_ns = r.at_ns;
  } else if (copies > 0 && --copies == 0) {
    resident_ns += r.at_ns - since_ns;
  }
}

std::size_t ExpertIndex::cell_of(std::uint16_t layer, std::uint16_t expert) const {
  if (layer >= layers_ || expert >= experts_)
    return static_cast<std::size_t>(layers_) * static_cast<std::size_t>(experts_);
  return static_cast<std::size_t>(layer) * static_cast<std::size_t>(experts_) + expert;
}

template <class Cell, class Records, class Add>
void ExpertIndex::extend(Checkpoints<Cell>& points, const Records& records, Add add) {
  points.now.resize(static_cast<std::size_t>(layers_) * static_cast<std::size_t>(experts_));
  for (; points.next < records.size(); ++points.next) {
    if (points.next % kSpacing == 0) points.saved.push_back(points.now);
    const std::size_t cell = cell_of(records[points.next].layer, records[points.next].expert);
    if (cell < points.now.size()) add(points.now[cell], records[points.next]);
  }
}

template <class Cell, class Records, class Add>
std::vector<Cell> ExpertIndex::before(const Checkpoints<Cell>& points, const Records& records, std::size_t record,
                                      Add add) const {
  if (record >= points.next) return points.now;
  std::vector<Cell> cells = points.saved[record / kSpacing];
  for (std::size_t i = record / kSpacing * kSpacing; i < record; ++i) {
    const std::size_t cell = cell_of(records[i].layer, records[i].expert);
    if (cell < cells.size()) add(cells[cell], records[i]);
  }
  return cells;
}

template <class Cell, class Records, class Add>
Cell ExpertIndex::before(const Checkpoints<Cell>& points, const Records& records, std::size_t record, std::size_t cell,
                         Add add) const {
  if (record >= points.next) return points.now[cell];
  Cell sum = points.saved[record / kSpacing][cell];
  for (std::size_t i = record / kSpacing * kSpacing; i < record; ++i)
    if (cell_of(records[i].layer, records[i].expert) == cell) add(sum, records[i]);
  return sum;
}

std::vector<ExpertHistoryBin> ExpertIndex::history(const Trace& trace, ExpertId id, TimeRange range, int bins) const {
  std::vector<ExpertHistoryBin> result;
  const std::size_t cell = cell_of(id.layer, id.expert);
  if (cell >= demands_.now.size() || range.end_ns <= range.begin_ns || bins <= 0) return result;
  struct Edge {
    DemandSums demands;
    std::int64_t bytes = 0;
    TimeNs resident_ns = 0;
  };
  const auto edge_at = [&](TimeNs t) {
    Edge edge;
    edge.demands = before(demands_, trace.demands, first_demand_at(trace, t), cell, kAddDemand);
    edge.bytes = before(copies_, trace.copies, first_copy_at(trace, t), cell, kAddCopy);
    edge.resident_ns = before(residency_, trace.residency, first_residency_after(trace, t), cell, kAddChange).until(t);
    return edge;
  };
  Edge last = edge_at(range.begin_ns);
  for (int i = 0; i < bins; ++i) {
    const auto place = [&](int n) {
      return range.begin_ns + static_cast<TimeNs>(static_cast<double>(range.end_ns - range.begin_ns) * n / bins);
    };
    const TimeRange part{place(i), place(i + 1)};
    const Edge edge = edge_at(part.end_ns);
    result.push_back({part, edge.demands.hits - last.demands.hits, edge.demands.late - last.demands.late,
                      edge.demands.misses - last.demands.misses, edge.bytes - last.bytes,
                      part.end_ns > part.begin_ns ? static_cast<double>(edge.resident_ns - last.resident_ns) /
                                                        static_cast<double>(part.end_ns - part.begin_ns)
                                                  : 0});
    last = edge;
  }
  return result;
}

void ExpertIndex::update(const Trace& trace) {
  if (!trace.started) return;
  layers_ = trace.info.layers;
  experts_ = trace.info.experts;
  extend(demands_, trace.demands, kAddDemand);
  extend(copies_, trace.copies, kAddCopy);
  extend(residency_, trace.residency, kAddChange);
}

ExpertGrid ExpertIndex::totals(const Trace& trace, TimeRange range) const {
  ExpertGrid grid{.layers = layers_, .experts = experts_, .cells = {}};
  grid.cells.resize(static_cast<std::size_t>(layers_) * static_cast<std::size_t>(experts_));
  if (grid.cells.empty() || range.end_ns <= range.begin_ns) return grid;

  const auto demands0 = before(demands_, trace.demands, first_demand_at(trace, range.begin_ns), kAddDemand);
  const auto demands1 = before(demands_, trace.demands, first_demand_at(trace, range.end_ns), kAddDemand);
  const auto bytes0 = before(copies_, trace.copies, first_copy_at(trace, range.begin_ns), kAddCopy);
  const auto bytes1 = before(copies_, trace.copies, first_copy_at(trace, range.end_ns), kAddCopy);
  const auto state0 = before(residency_, trace.residency, first_residency_after(trace, range.begin_ns), kAddChange);
  const auto state1 = before(residency_, trace.residency, first_residency_after(trace, range.end_ns), kAddChange);
  for (std::size_t i = 0; i < grid.cells.size(); ++i) {
    ExpertCell& cell = grid.cells[i];
    cell.demands = demands1[i].demands - demands0[i].demands;
    cell.picks = demands1[i].picks - demands0[i].picks;
    cell.hits = demands1[i].hits - demands0[i].hits;
    cell.late = demands1[i].late - demands0[i].late;
    cell.misses = demands1[i].misses - demands0[i].misses;
    cell.cpu = demands1[i].cpu - demands0[i].cpu;
    cell.skipped = demands1[i].skipped - demands0[i].skipped;
    cell.substituted = demands1[i].substituted - demands0[i].substituted;
    cell.early = demands1[i].early - demands0[i].early;
    cell.low_precision = demands1[i].low_precision - demands0[i].low_precision;
    cell.bytes = bytes1[i] - bytes0[i];
    cell.resident_ns = state1[i].until(range.end_ns) - state0[i].until(range.begin_ns);
    cell.resident = state1[i].copies > 0;
  }
  return grid;
}

}  // namespace expertscope
