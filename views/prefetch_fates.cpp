#include "views/prefetch_fates.h"

#include <algorithm>

namespace expertscope {

void PrefetchFates::update(const Trace& trace) {
  const auto cells = static_cast<std::size_t>(std::max(0, trace.info.layers)) *
                     static_cast<std::size_t>(std::max(0, trace.info.experts));
  if (!trace.started || cells == 0) return;
  waiting_.resize(cells);
  for (; next_copy_ < trace.copies.size(); ++next_copy_) {
    const CopyRecord& copy = trace.copies[next_copy_];
    if (copy.reason != CopyReason::prefetch || copy.layer >= trace.info.layers || copy.expert >= trace.info.experts)
      continue;
    if (copy.copy >= fates_.size()) fates_.resize(copy.copy + 1, PrefetchFate::pending);
    if (fates_[copy.copy] != PrefetchFate::pending) continue;  // a later piece of one that was late
    auto& waiting =
        waiting_[static_cast<std::size_t>(copy.layer) * static_cast<std::size_t>(trace.info.experts) + copy.expert];
    if (waiting.empty() || waiting.back().copy != copy.copy) {
      waiting.push_back({copy.copy, copy.step, copy.issued_ns});
      if (copy.step >= counts_.size()) counts_.resize(copy.step + 1);
      ++counts_[copy.step].pending;
    }
  }
  // An expert may be lost unused, fetched again and used within one step: losses and uses are settled in the order of
  // time.
  const auto settle_losses_until = [&](TimeNs t) {
    for (; next_residency_ < trace.residency.size() && trace.residency[next_residency_].at_ns <= t; ++next_residency_) {
      const ResidencyRecord& change = trace.residency[next_residency_];
      if (change.change != ResidencyChange::loaded && change.reason == CopyReason::prefetch && !change.used)
        settle(trace, change.layer, change.expert, change.at_ns, PrefetchFate::wasted);
    }
  };
  for (; next_step_ < trace.steps.size(); ++next_step_) {
    const StepRecord& step = trace.steps[next_step_];
    for (const DemandRecord& demand : trace.demands_of(step.step)) {
      settle_losses_until(demand.asked_ns);
      if (demand.prefetched || demand.state == DemandState::late)
        settle(trace, demand.layer, demand.expert, demand.asked_ns,
               demand.state == DemandState::late ? PrefetchFate::late : PrefetchFate::used);
    }
    settle_losses_until(step.end_ns);
  }
}

void PrefetchFates::settle(const Trace& trace, std::uint16_t layer, std::uint16_t expert, TimeNs at_ns,
                           PrefetchFate fate) {
  if (layer >= trace.info.layers || expert >= trace.info.experts) return;
  auto& waiting = waiting_[static_cast<std::size_t>(layer) * static_cast<std::size_t>(trace.info.experts) + expert];
  const auto copy =
      std::find_if(waiting.begin(), waiting.end(), [&](const Waiting& w) { return w.issued_ns <= at_ns; });
  if (copy == waiting.end()) return;
  fates_[copy->copy] = fate;
  PrefetchCounts& counts = counts_[copy->step];
  --counts.pending;
  ++(fate == PrefetchFate::used ? counts.used : fate == PrefetchFate::late ? counts.late : counts.wasted);
  waiting.erase(copy);
}

}  // namespace expertscope
