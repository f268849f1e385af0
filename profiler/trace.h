// The session in memory: the only thing that views and reports read. Filled by batches, live or from a file alike.
// Owned and used by one thread (the window's, or the command's); whoever produces batches hands them over through a
// queue.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
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
  void append(Batch&&);  // the same, without a copy when the trace is empty

  // Records in the order they were emitted. Steps, tokens, epochs and prompts are in time order. A step's record comes
  // after all its demands: while a run is on, and after a killed one, the last demands may belong to no step yet.
  RunInfo info;
  bool started = false;
  bool ended = false;
  std::vector<StepRecord>
      steps;  // by growing step number; steps[i].step == i unless a file's row was skipped: use find_step
  std::vector<WorkRecord> works;
  std::vector<CopyRecord> copies;
  std::vector<DemandRecord> demands;  // grouped by step, then by layer
  std::vector<ResidencyRecord> residency;
  std::vector<TokenRecord> tokens;
  std::vector<EpochRecord> epochs;
  std::vector<PromptRecord> prompts;
  std::vector<MarkRecord> marks;
  std::map<std::string, HealthNote> health;  // by code, counts added up
  std::map<std::string, std::string> wall;
  std::map<std::int32_t, std::string> pieces;  // text of each token id that occurred
  std::vector<LogitsRecord> logits;
  std::vector<QualityRecord> quality;
  std::vector<GpuCopyRecord> gpu_copies;  // as CUPTI saw them
  GpuTotals gpu_totals;                   // of everything else that it saw

  TimeNs begin_ns() const { return 0; }
  TimeNs end_ns() const { return end_ns_; }  // end of the last record

  // The intervals of each lane in time order, with sums for zoomed-out drawing.
  const std::map<LaneKey, LaneIndex>& lanes() const { return lanes_; }

  const StepRecord* find_step(std::uint32_t step) const;  // nullptr when there is none
  std::span<const DemandRecord> demands_of(std::uint32_t step) const;
  std::span<const WorkRecord> works_of(std::uint32_t step) const;  // works are emitted step by step

  // The step that holds this time, or that is nearest before it. nullptr when there is none.
  const StepRecord* step_at(TimeNs) const;
  // Index of the first step that starts at or after `t`, or ends after it; steps.size() when there is none.
  std::size_t first_step_starting_at(TimeNs t) const;
  std::size_t first_step_ending_after(TimeNs t) const;
  // The epoch in force at a step; nullptr before the first.
  const EpochRecord* epoch_of(const StepRecord&) const;

  // Text of a token as bytes; "" when it is unknown. Bytes need not be whole UTF-8 characters.
  std::string_view piece(std::int32_t id) const;

  std::uint64_t revision() const { return revision_; }  // grows with every append: for caches of views

 private:
  struct Group {  // records of one step: [begin, next group's begin)
    std::uint32_t step;
    std::uint32_t begin;
  };
  template <typename Record>
  static void index_by_step(const std::vector<Record>&, std::size_t first_new, std::vector<Group>&);
  template <typename Record>
  static std::span<const Record> group_of(std::uint32_t step, const std::vector<Record>&, const std::vector<Group>&);
  struct Sizes {
    std::size_t works, copies, demands, steps;
  };
  void index_new(const Sizes& before);
  void append_rare(const Batch&);

  std::map<LaneKey, LaneIndex> lanes_;
  std::vector<Group> demand_groups_, work_groups_;
  TimeNs end_ns_ = 0;
  std::uint64_t revision_ = 0;
};

}  // namespace expertscope
