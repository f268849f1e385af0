#include <algorithm>

#include "engine/assert.h"
#include "engine/machines/cuda/timeline.h"

namespace expertscope::cuda {

void Tickets::complete(Ticket t, TimeNs at) {
  if (t < first_) return;
  entries_[t - first_] = {true, at};
}

void Tickets::forget_done() {
  while (!entries_.empty() && entries_.front().done) {
    entries_.pop_front();
    ++first_;
  }
}

Timeline::Timeline(const DeviceClock& clock, Tickets& tickets)
    : clock_(clock), tickets_(tickets), stamps_(2 * std::int64_t{kStamps}), counters_(kStreams) {
  check(cudaMemset(counters_.data(), 0, counters_.bytes()), "clearing device memory");
}

Stamp Timeline::begin(Operation op, int stream) {
  ES_ASSERT(stream < kStreams, "a stream that has a counter");
  ES_ASSERT(operations_.size() < kStamps, "too many operations under way");
  op.stamp = place(next_++);
  stamps()[2 * op.stamp] = 0;
  stamps()[2 * op.stamp + 1] = 0;
  operations_.push_back(op);
  return {stamps_.data() + 2 * op.stamp, stamps_.data() + 2 * op.stamp + 1, counters_.data() + stream};
}

void Timeline::close(Work work, std::size_t rows, std::uint16_t expert) {
  ES_ASSERT(!operations_.empty() && operations_.back().open, "closes an operation that was begun open");
  Operation& op = operations_.back();
  op.work.bytes = work.bytes;
  op.work.flops = work.flops;
  op.work.tokens = static_cast<std::uint16_t>(rows);
  op.work.expert = expert;
  op.open = false;
}

void Timeline::collect() {
  while (!operations_.empty()) {
    Operation& op = operations_.front();
    const std::uint64_t end = stamps()[2 * op.stamp + 1];
    if (end == 0 || op.open) return;
    // The device's start may be told after its end; both are there when the operation's kernels are over.
    const std::uint64_t start = stamps()[2 * op.stamp];
    if (start == 0) return;
    WorkRecord work = op.work;
    const TimeNs began = std::max(last_end_ns_, clock_.to_session(start));
    work.start_ns = began;
    work.end_ns = std::max(began, clock_.to_session(end));
    if (observer_ != nullptr) {
      if (op.after != 0 && tickets_.at(op.after) > last_end_ns_ && last_end_ns_ > 0) {
        WorkRecord wait = work;
        wait.start_ns = last_end_ns_;
        wait.end_ns = began;
        wait.bytes = wait.flops = 0;
        wait.kind = op.wait;
        if (wait.end_ns > wait.start_ns) observer_->on_event(wait);
      }
      observer_->on_event(work);
    }
    last_end_ns_ = work.end_ns;
    tickets_.complete(op.ticket, work.end_ns);
    operations_.pop_front();
  }
}

}  // namespace expertscope::cuda
