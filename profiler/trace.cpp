#include "profiler/trace.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace expertscope {
namespace {

template <typename Record>
void add(std::vector<Record>& to, const std::vector<Record>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

template <typename Record>
void add(std::vector<Record>& to, std::vector<Record>&& from) {
  if (to.empty()) {
    to = std::move(from);
  } else {
    to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
  }
}

}  // namespace

void Trace::append(const Batch& batch) {
  const Sizes before{works.size(), copies.size(), demands.size(), steps.size()};
  add(works, batch.works);
  add(copies, batch.copies);
  add(demands, batch.demands);
  add(residency, batch.residency);
  add(tokens, batch.tokens);
  add(steps, batch.steps);
  append_rare(batch);
  index_new(before);
}

void Trace::append(Batch&& batch) {
  const Sizes before{works.size(), copies.size(), demands.size(), steps.size()};
  add(works, std::move(batch.works));
  add(copies, std::move(batch.copies));
  add(demands, std::move(batch.demands));
  add(residency, std::move(batch.residency));
  add(tokens, std::move(batch.tokens));
  add(steps, std::move(batch.steps));
  append_rare(batch);
  index_new(before);
}

void Trace::append_rare(const Batch& batch) {
  if (batch.start) {
    info = *batch.start;
    started = true;
  }
  ended = ended || batch.ended;
  add(epochs, batch.epochs);
  add(prompts, batch.prompts);
  add(marks, batch.marks);
  add(logits, batch.logits);
  add(quality, batch.quality);
  add(gpu_copies, batch.gpu.copies);
  gpu_totals += batch.gpu_totals;
  for (const auto& [id, bytes] : batch.pieces) pieces[id] = bytes;
  for (const auto& [key, value] : batch.wall) wall[key] = value;
  for (const HealthNote& note : batch.health) {
    const auto [place, is_new] = health.try_emplace(note.code, note);
    if (is_new) continue;
    const std::uint64_t count = place->second.count + note.count;
    place->second = note;
    place->second.count = count;
  }
  for (const EpochRecord& e : batch.epochs) end_ns_ = std::max(end_ns_, e.at_ns);
  for (const MarkRecord& m : batch.marks) end_ns_ = std::max(end_ns_, m.at_ns);
  ++revision_;
}

void Trace::index_new(const Sizes& before) {
  std::map<LaneKey, std::vector<LaneItem>> late;  // before the last item of their lane: added at once at the end
  LaneKey current_key;
  LaneIndex* current = nullptr;
  const auto place = [&](LaneKey key, const LaneItem& item) {
    if (!current || key != current_key) {
      current = &lanes_[key];
      current_key = key;
    }
    end_ns_ = std::max(end_ns_, item.end_ns);
    if (!current->items().empty() && item.start_ns < current->items().back().start_ns) {
      late[key].push_back(item);
    } else {
      current->append(item);
    }
  };
  for (std::size_t i = before.works; i < works.size(); ++i) {
    const WorkRecord& w = works[i];
    place({w.lane, w.device},
          {w.start_ns, w.end_ns, static_cast<std::uint32_t>(i), static_cast<std::uint8_t>(w.kind), false});
  }
  for (std::size_t i = before.copies; i < copies.size(); ++i) {
    const CopyRecord& c = copies[i];
    place({c.lane, c.device},
          {c.start_ns, c.end_ns, static_cast<std::uint32_t>(i), static_cast<std::uint8_t>(c.reason), true});
  }
  for (const auto& [key, items] : late) lanes_[key].append(items);
  for (std::size_t i = before.demands; i < demands.size(); ++i) end_ns_ = std::max(end_ns_, demands[i].ready_ns);
  for (std::size_t i = before.steps; i < steps.size(); ++i) end_ns_ = std::max(end_ns_, steps[i].end_ns);
  index_by_step(demands, before.demands, demand_groups_);
  index_by_step(works, before.works, work_groups_);
}

template <typename Record>
void Trace::index_by_step(const std::vector<Record>& records, std::size_t first_new, std::vector<Group>& groups) {
  for (std::size_t i = first_new; i < records.size(); ++i) {
    if (groups.empty() || records[i].step > groups.back().step) {
      groups.push_back({records[i].step, static_cast<std::uint32_t>(i)});
    }
  }
}

template <typename Record>
std::span<const Record> Trace::group_of(std::uint32_t step, const std::vector<Record>& records,
                                        const std::vector<Group>& groups) {
  const auto group = std::ranges::lower_bound(groups, step, {}, &Group::step);
  if (group == groups.end() || group->step != step) return {};
  const auto next = std::next(group);
  const std::size_t end = next == groups.end() ? records.size() : next->begin;
  return std::span(records).subspan(group->begin, end - group->begin);
}

std::span<const DemandRecord> Trace::demands_of(std::uint32_t step) const {
  return group_of(step, demands, demand_groups_);
}

std::span<const WorkRecord> Trace::works_of(std::uint32_t step) const {
  return group_of(step, works, work_groups_);
}

const StepRecord* Trace::find_step(std::uint32_t step) const {
  if (step < steps.size() && steps[step].step == step) return &steps[step];
  const auto found = std::ranges::lower_bound(steps, step, {}, &StepRecord::step);
  return found != steps.end() && found->step == step ? &*found : nullptr;
}

const StepRecord* Trace::step_at(TimeNs t) const {
  const auto after = std::ranges::upper_bound(steps, t, {}, &StepRecord::start_ns);
  return after == steps.begin() ? nullptr : &*std::prev(after);
}

std::size_t Trace::first_step_starting_at(TimeNs t) const {
  return static_cast<std::size_t>(std::ranges::lower_bound(steps, t, {}, &StepRecord::start_ns) - steps.begin());
}

std::size_t Trace::first_step_ending_after(TimeNs t) const {
  return static_cast<std::size_t>(std::ranges::upper_bound(steps, t, {}, &StepRecord::end_ns) - steps.begin());
}

const EpochRecord* Trace::epoch_of(const StepRecord& step) const {
  const auto after = std::ranges::upper_bound(epochs, step.epoch, {}, &EpochRecord::epoch);
  return after == epochs.begin() ? nullptr : &*std::prev(after);
}

std::string_view Trace::piece(std::int32_t id) const {
  const auto found = pieces.find(id);
  return found == pieces.end() ? std::string_view() : std::string_view(found->second);
}

}  // namespace expertscope
