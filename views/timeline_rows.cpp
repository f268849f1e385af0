#include "views/timeline_rows.h"

namespace expertscope {

bool is_wait(WorkKind kind) {
  return kind >= WorkKind::wait_demand;
}

void TimelineRows::update(const Trace& trace, const InexactIndex& inexact) {
  for (const auto early = inexact.early(); early_.next < early.size(); ++early_.next) {
    const std::uint32_t record = early[early_.next].record;
    const WorkRecord& work = trace.works[record];
    early_.items.append({work.start_ns, work.end_ns, record, static_cast<std::uint8_t>(work.kind), false});
  }
  for (const auto& [key, lane] : trace.lanes()) {
    if (key.lane == Lane::h2d) {
      MarkedItems& low = low_h2d_[key.device];
      const auto items = lane.items();
      for (; low.next < items.size(); ++low.next) {
        const LaneItem& item = items[low.next];
        if (item.is_copy && trace.copies[item.record].precision != Precision::native) low.items.append(item);
      }
    }
    if (key.lane != Lane::gpu) continue;
    SplitLane& split = gpus_[key.device];
    const auto items = lane.items();
    for (; split.next < items.size(); ++split.next) {
      const LaneItem& item = items[split.next];
      (is_wait(static_cast<WorkKind>(item.kind)) ? split.waits : split.compute).append(item);
    }
  }
}

std::vector<TimelineRow> TimelineRows::rows(const Trace& trace) const {
  static const LaneIndex kNothing;
  std::vector<TimelineRow> rows;
  const bool several = gpus_.size() > 1;
  const auto labelled = [&](const char* label, std::uint8_t device) {
    return several ? label + (" " + std::to_string(device)) : std::string(label);
  };
  const auto lane = [&](Lane kind, std::uint8_t device) {
    const auto found = trace.lanes().find({kind, device});
    return found == trace.lanes().end() || found->second.items().empty() ? nullptr : &found->second;
  };
  const auto some = [](const MarkedItems& marked) { return marked.items.items().empty() ? nullptr : &marked.items; };
  const auto device_rows = [&](std::uint8_t device, const LaneIndex* compute, const LaneIndex* waits) {
    rows.push_back({RowKind::gpu, device, labelled("GPU", device), compute, nullptr});
    rows.push_back({RowKind::waits, device, labelled("Waits", device), waits, nullptr});
    const LaneIndex* h2d = lane(Lane::h2d, device);
    const auto low = low_h2d_.find(device);
    rows.push_back({RowKind::h2d, device, labelled("H2D", device), h2d ? h2d : &kNothing,
                    low == low_h2d_.end() ? nullptr : some(low->second)});
    if (const LaneIndex* d2h = lane(Lane::d2h, device))
      rows.push_back({RowKind::d2h, device, labelled("D2H", device), d2h, nullptr});
  };
  for (const auto& [device, split] : gpus_) device_rows(device, &split.compute, &split.waits);
  if (gpus_.empty()) device_rows(0, &kNothing, &kNothing);
  const LaneIndex* cpu = lane(Lane::cpu, 0);
  rows.push_back({RowKind::cpu, 0, "CPU", cpu ? cpu : &kNothing, some(early_)});
  if (const LaneIndex* host = lane(Lane::host, 0)) rows.push_back({RowKind::host, 0, "Host", host, nullptr});
  if (const LaneIndex* storage = lane(Lane::storage, 0))
    rows.push_back({RowKind::storage, 0, "Storage", storage, nullptr});
  return rows;
}

}  // namespace expertscope
