// Finds out for which step, layer, expert and reason the device did something. CUPTI numbers each API call
// (correlation) and tells of each call which tag was in force; kernels and copies carry the number of their call. The
// two arrive through different buffers, in any order.
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "profiler/cupti_records.h"

namespace expertscope {

// One thread at a time.
class CuptiJoiner {
 public:
  CuptiJoiner();

  void add_call(std::uint32_t correlation, std::uint64_t tag);
  // Nodes of CUDA graphs keep the tag that was in force when they were recorded; of a graph's launch they take the
  // step.
  void add_node(std::uint64_t node, std::uint64_t tag);
  void add_clone(std::uint64_t node, std::uint64_t original);

  // `also`: a second number under which the call may be known, 0 for none.
  void add(GpuKernelRecord record) { add_to(kernels_, record, 0); }
  void add(GpuCopyRecord record, std::uint32_t also = 0) { add_to(copies_, record, also); }
  void add(GpuMemsetRecord record) { add_to(memsets_, record, 0); }

  // Hands over what has its tag, and what has waited for it in `kPatience` calls of this, which is then joined to
  // nothing. `everything`: whether it has a tag or not.
  void hand_over(GpuRecords& to, bool everything);
  static constexpr int kPatience = 20;

 private:
  template <typename Record>
  struct Waiting {
    Record record;
    std::uint32_t also = 0;
    int rounds = 0;
  };
  template <typename Record>
  void add_to(std::vector<Waiting<Record>>& list, const Record& record, std::uint32_t also) {
    list.push_back({record, also, 0});
  }
  template <typename Record>
  void hand_over(std::vector<Waiting<Record>>& from, std::vector<Record>& to, bool everything);
  std::uint64_t tag_of_call(std::uint32_t correlation) const;
  std::uint64_t tag_of(const GpuInterval&, std::uint32_t also) const;

  // The last million calls by the low bits of their number: what is under way never reaches back further.
  struct Call {
    std::uint32_t correlation = 0;
    std::uint64_t tag = 0;
  };
  std::vector<Call> calls_;
  std::unordered_map<std::uint64_t, std::uint64_t> node_tags_;
  std::vector<Waiting<GpuKernelRecord>> kernels_;
  std::vector<Waiting<GpuCopyRecord>> copies_;
  std::vector<Waiting<GpuMemsetRecord>> memsets_;
};

}  // namespace expertscope
