// The session in memory: the only thing that views and reports read. Filled by batches, live or from a file alike.
// Owned and used by one thread (the window's, or the command's); whoever produces batches hands them over through a queue.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "profiler/batch.h"
#include "profiler/lane_index.h"

namespace expertscope {

struct LaneKey {
  Lane lane = Lane::host;
  std::uint8_t device = 0;
  auto operator<=>(const LaneKey&) const = default;
};

class Trace {
 public:
  void append(const Batch&);

  // Records in the order they were emitted. Steps, tokens, epochs, prompts and each lane's intervals are in time order.
  RunInfo info;
  bool started = false;
  bool ended = false;
  std::vector<StepRecord> steps;        // steps[i].step == i
  std::vector<WorkRecord> works;
  std::vector<CopyRecord> copies;
  std::vector<DemandRecord> demands;    // grouped by step, then by layer
  std::vector<ResidencyRecord> residency;
  std::vector<TokenRecord> tokens;
  std::vector<EpochRecord> epochs;
  std::vector<PromptRecord> prompts;
  std::vector<MarkRecord> marks;
  std::map<std::string, HealthNote> health;  // by code, counts added up
  std::map<std::string, std::string> wall;

  TimeNs begin_ns() const { return 0; }
  TimeNs end_ns() const;  // end of the last record

  // Indices into `works` / `copies` by lane, in time order, with a level-of-detail index for zoomed-out drawing.
  const std::map<LaneKey, LaneIndex>& lanes() const { return lanes_; }

  std::span<const DemandRecord> demands_of(std::uint32_t step) const;
  std::span<const WorkRecord> works_of(std::uint32_t step) const;  // works are emitted step by step

  // The step that holds this time, or that is nearest before it. nullptr when there is none.
  const StepRecord* step_at(TimeNs) const;

  std::uint64_t revision() const { return revision_; }  // grows with every append: for caches of views

 private:
  std::map<LaneKey, LaneIndex> lanes_;
  std::vector<std::uint32_t> first_demand_, first_work_;  // per step
  std::uint64_t revision_ = 0;
};

}  // namespace expertscope
