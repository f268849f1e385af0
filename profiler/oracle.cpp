#include "profiler/oracle.h"

#include <algorithm>
#include <limits>

namespace expertscope {
namespace {

constexpr std::size_t kNever = std::numeric_limits<std::size_t>::max();

std::uint32_t key(std::uint16_t layer, std::uint16_t expert) {
  return std::uint32_t{layer} << 16 | expert;
}

}  // namespace

std::int64_t oracle_hits(std::span<const std::vector<std::uint32_t>> requests, std::size_t slots,
                         std::set<std::uint32_t> cache) {
  // next[i][j]: the request after i that asks for the same expert again.
  std::vector<std::vector<std::size_t>> next(requests.size());
  std::map<std::uint32_t, std::size_t> upcoming;
  for (std::size_t i = requests.size(); i-- > 0;) {
    for (std::uint32_t id : requests[i]) {
      const auto known = upcoming.find(id);
      next[i].push_back(known == upcoming.end() ? kNever : known->second);
    }
    for (std::uint32_t id : requests[i]) upcoming[id] = i;
  }
  // The cache by next use: the furthest is at the end.
  std::map<std::uint32_t, std::size_t> use_of;
  std::set<std::pair<std::size_t, std::uint32_t>> by_use;
  const auto put = [&](std::uint32_t id, std::size_t use) {
    if (const auto old = use_of.find(id); old != use_of.end()) by_use.erase({old->second, id});
    use_of[id] = use;
    by_use.emplace(use, id);
  };
  for (std::uint32_t id : cache) {
    const auto known = upcoming.find(id);
    put(id, known == upcoming.end() ? kNever : known->second);
  }
  std::int64_t hits = 0;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    for (std::uint32_t id : requests[i]) hits += use_of.contains(id) ? 1 : 0;
    for (std::size_t j = 0; j < requests[i].size(); ++j) put(requests[i][j], next[i][j]);
    while (by_use.size() > slots) {
      const auto furthest = std::prev(by_use.end());
      use_of.erase(furthest->second);
      by_use.erase(furthest);
    }
  }
  return hits;
}

void OracleWindows::finish(const Trace& trace) {
  if (open_.empty()) return;
  const StepRecord& first = trace.steps[open_.front()];
  const StepRecord& last = trace.steps[open_.back()];
  const EpochRecord* epoch = trace.epoch_of(first);
  for (; residency_seen_ < trace.residency.size() && trace.residency[residency_seen_].at_ns <= first.start_ns;
       ++residency_seen_) {
    const ResidencyRecord& r = trace.residency[residency_seen_];
    r.change == ResidencyChange::loaded ? void(resident_.insert(key(r.layer, r.expert)))
                                        : void(resident_.erase(key(r.layer, r.expert)));
  }
  std::vector<std::vector<std::uint32_t>> requests;
  OracleWindow window{
      .start_ns = first.start_ns, .end_ns = last.end_ns, .first_step = first.step, .last_step = last.step};
  for (std::size_t i : open_) {
    int layer = -1;
    for (const DemandRecord& d : trace.demands_of(trace.steps[i].step)) {
      if (d.layer != layer) requests.emplace_back();
      layer = d.layer;
      requests.back().push_back(key(d.layer, d.expert));
      ++window.demands;
    }
  }
  window.hits = oracle_hits(requests, epoch != nullptr ? epoch->slots : trace.info.slots, resident_);
  windows_.push_back(window);
  open_.clear();
}

void OracleWindows::update(const Trace& trace) {
  for (; steps_seen_ < trace.steps.size(); ++steps_seen_) {
    const StepRecord& step = trace.steps[steps_seen_];
    if (!open_.empty()) {
      const StepRecord& first = trace.steps[open_.front()];
      if (step.phase != Phase::decode || step.epoch != first.epoch || step.prompt != first.prompt) finish(trace);
    }
    if (step.phase != Phase::decode) continue;
    open_.push_back(steps_seen_);
    if (open_.size() == kSteps) finish(trace);
  }
  if (trace.ended) finish(trace);
}

}  // namespace expertscope
