#include "profiler/cupti_joiner.h"

namespace expertscope {
namespace {

constexpr std::uint32_t kCalls = 1u << 20;
constexpr std::uint64_t kStepBits = 0xffffffff;

}  // namespace

CuptiJoiner::CuptiJoiner() : calls_(kCalls) {}

void CuptiJoiner::add_call(std::uint32_t correlation, std::uint64_t tag) {
  calls_[correlation & (kCalls - 1)] = {correlation, tag};
}

void CuptiJoiner::add_node(std::uint64_t node, std::uint64_t tag) {
  node_tags_[node] = tag;
}

void CuptiJoiner::add_clone(std::uint64_t node, std::uint64_t original) {
  if (const auto found = node_tags_.find(original); found != node_tags_.end()) node_tags_[node] = found->second;
}

std::uint64_t CuptiJoiner::tag_of_call(std::uint32_t correlation) const {
  const Call& call = calls_[correlation & (kCalls - 1)];
  return call.correlation == correlation ? call.tag : 0;
}

std::uint64_t CuptiJoiner::tag_of(const GpuInterval& record, std::uint32_t also) const {
  std::uint64_t tag = tag_of_call(record.correlation);
  if (tag == 0 && also != 0) tag = tag_of_call(also);
  if (tag == 0 || record.graph_node == 0) return tag;
  const auto node = node_tags_.find(record.graph_node);
  return node == node_tags_.end() ? tag : (node->second & ~kStepBits) | (tag & kStepBits);
}

template <typename Record>
void CuptiJoiner::hand_over(std::vector<Waiting<Record>>& from, std::vector<Record>& to, bool everything) {
  std::size_t kept = 0;
  for (Waiting<Record>& entry : from) {
    entry.record.tag = tag_of(entry.record, entry.also);
    if (entry.record.tag != 0 || everything || ++entry.rounds >= kPatience) {
      to.push_back(entry.record);
    } else {
      from[kept++] = entry;
    }
  }
  from.resize(kept);
}

void CuptiJoiner::hand_over(GpuRecords& to, bool everything) {
  hand_over(kernels_, to.kernels, everything);
  hand_over(copies_, to.copies, everything);
  hand_over(memsets_, to.memsets, everything);
}

}  // namespace expertscope
