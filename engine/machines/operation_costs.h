// What each operation of a forward pass costs on an emulated machine: bytes and operations from the cost shape, time
// from the machine profile. An operation takes its fixed cost plus the longer of bytes over bandwidth and operations
// over rate.
#pragma once

#include <cstdint>
#include <span>

#include "engine/machine.h"
#include "engine/machines/cost_shape.h"
#include "engine/machines/emulated_machine.h"
#include "engine/machines/lane_simulation.h"
#include "engine/machines/profile.h"
#include "engine/model/arithmetic.h"
#include "engine/run_info.h"

namespace expertscope {

struct Work {
  std::int64_t bytes = 0;
  std::int64_t flops = 0;
};

class OperationCosts {
 public:
  OperationCosts(const MachineProfile&, const CostShape&, const RunShape&);
  const MachineProfile& profile() const { return profile_; }
  const CostShape& shape() const { return cost_; }

  // --- what there is to do
  Work embed(std::size_t tokens) const;
  Work attention(std::span<const TokenInput> tokens) const;  // one layer
  Work router(int gates, std::size_t tokens) const;
  Work expert(std::size_t rows, Precision = Precision::native) const;
  // `padded_rows` above 0: rows reach experts and come back by products with a mask of tokens by experts by rows.
  Work combine(std::size_t tokens, std::size_t padded_rows = 0) const;
  Work head(std::size_t tokens) const;
  std::int64_t activation_bytes(std::size_t rows) const;
  std::int64_t mask_bytes(std::size_t tokens, std::size_t padded_rows) const;
  // What a layer's experts take for so many rows, in and out, and a padding gate for its mask.
  std::int64_t work_bytes(std::size_t rows, std::size_t tokens, std::size_t padded_rows) const;

  // --- how long it takes where
  LaneOp on_gpu(WorkKind, Work, std::uint8_t device = 0) const;
  LaneOp on_cpu(Work) const;
  LaneOp expert_copy(Precision = Precision::native) const;  // host to device; nothing with unified memory
  TimeNs issue_ns(WorkKind) const;                          // of the host, to queue it; 0 where that is not known
  // Whether experts that start together take the fixed part once, on the GPU as on the CPU.
  bool starts_together() const { return !profile_.gpus[0].operations.empty(); }
  TimeNs idle_link_ns() const { return to_ns(profile_.link.start_s); }  // more for a copy that finds the link idle
  LaneOp activation_copy(Lane, std::size_t rows) const;
  // From a GPU straight to another, where that is possible; it takes the sender's copy engine.
  bool has_peers() const { return profile_.peer_bytes_per_s > 0; }
  LaneOp peer_copy(std::size_t rows) const;
  LaneOp storage_read(Precision) const;
  TimeNs sync_ns() const { return to_ns(profile_.gpus[0].sync_s); }
  TimeNs policy_ns() const { return to_ns(profile_.host.policy_s); }
  TimeNs sampling_ns() const;

  // --- what it takes up. InputError with the sums when that is more than there is.
  // Of the GPU that is asked for; GPU 0 holds what is not an expert's. A lower precision takes its bits and a float16
  // scale for each 32 weights, and never more than the native one.
  std::int64_t expert_bytes(Precision) const;
  MemoryUse memory(const SlotCounts&) const;
  void ensure_fits(const SlotCounts&) const;

 private:
  static TimeNs to_ns(double seconds);

  MachineProfile profile_;
  CostShape cost_;
  RunShape run_;
};

}  // namespace expertscope
