#include "views/inexact_index.h"

#include <algorithm>

#include "views/format.h"

namespace expertscope {
namespace {

constexpr std::uint8_t kNoDemand = 0xff;

}  // namespace

void InexactCounts::add(const DemandRecord& demand) {
  skipped += demand.outcome == Outcome::skipped;
  substituted += demand.outcome == Outcome::substituted;
  early += demand.outcome == Outcome::cpu_early;
  low_precision += demand.precision != Precision::native;
  revised += demand.revised;
}

InexactCounts& InexactCounts::operator+=(const InexactCounts& other) {
  skipped += other.skipped;
  substituted += other.substituted;
  early += other.early;
  low_precision += other.low_precision;
  revised += other.revised;
  early_unasked += other.early_unasked;
  return *this;
}

std::string inexact_text(const InexactCounts& counts) {
  std::string text;
  const auto add = [&](std::uint32_t count, const char* what) {
    if (count == 0) return;
    if (!text.empty()) text += ", ";
    text += format_count(count) + " " + what;
  };
  add(counts.skipped, "skipped");
  add(counts.substituted, "substituted");
  add(counts.early + counts.early_unasked, "early");
  add(counts.low_precision, "low precision");
  if (text.empty()) add(counts.revised, "reweighted");
  return text;
}

void InexactIndex::update(const Trace& trace) {
  if (!trace.started || trace.info.layers <= 0 || trace.info.experts <= 0) return;
  outcomes_.resize(static_cast<std::size_t>(trace.info.layers) * static_cast<std::size_t>(trace.info.experts),
                   kNoDemand);
  for (; next_step_ < trace.steps.size(); ++next_step_) add_step(trace, trace.steps[next_step_]);
}

void InexactIndex::add_step(const Trace& trace, const StepRecord& step) {
  const auto place = [&](const auto& record) -> std::uint8_t* {
    if (record.layer >= trace.info.layers || record.expert >= trace.info.experts) return nullptr;
    return &outcomes_[static_cast<std::size_t>(record.layer) * static_cast<std::size_t>(trace.info.experts) +
                      record.expert];
  };
  InexactCounts counts;
  const auto demands = trace.demands_of(step.step);
  for (const DemandRecord& demand : demands) {
    counts.add(demand);
    if (std::uint8_t* outcome = place(demand)) *outcome = static_cast<std::uint8_t>(demand.outcome);
  }
  for (const WorkRecord& work : trace.works_of(step.step)) {
    if (work.lane != Lane::cpu || work.kind != WorkKind::expert) continue;
    const std::uint8_t* outcome = place(work);
    if (!outcome || *outcome == static_cast<std::uint8_t>(Outcome::cpu)) continue;
    const bool demanded = *outcome == static_cast<std::uint8_t>(Outcome::cpu_early);
    early_.push_back({static_cast<std::uint32_t>(&work - trace.works.data()), demanded});
    counts.early_unasked += !demanded;
  }
  for (const DemandRecord& demand : demands)
    if (std::uint8_t* outcome = place(demand)) *outcome = kNoDemand;
  if (step.step >= by_step_.size()) by_step_.resize(step.step + 1);
  by_step_[step.step] = counts;
  total_ += counts;
}

EarlyWork InexactIndex::early(std::uint32_t work) const {
  const auto found =
      std::partition_point(early_.begin(), early_.end(), [&](const Early& e) { return e.record < work; });
  if (found == early_.end() || found->record != work) return EarlyWork::none;
  return found->demanded ? EarlyWork::demanded : EarlyWork::unasked;
}

}  // namespace expertscope
