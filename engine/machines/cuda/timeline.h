// What the compute stream was asked to do, in order, and when it did it: operations get a stamp that the device fills,
// and a ticket that completes when it is filled.
#pragma once

#include <deque>
#include <vector>

#include "engine/machine.h"
#include "engine/machines/cuda/device.h"
#include "engine/machines/cuda/device_clock.h"
#include "engine/machines/cuda/kernels.h"
#include "engine/machines/operation_costs.h"

namespace expertscope::cuda {

// Completions of a machine's operations and copies.
class Tickets {
 public:
  Ticket make() {
    entries_.emplace_back();
    return first_ + entries_.size() - 1;
  }
  void complete(Ticket, TimeNs at);
  bool done(Ticket t) const { return t < first_ || entries_[t - first_].done; }
  // 0 for what was forgotten.
  TimeNs at(Ticket t) const { return t < first_ ? 0 : entries_[t - first_].at_ns; }
  void forget_done();  // of the oldest

 private:
  struct Entry {
    bool done = false;
    TimeNs at_ns = 0;
  };
  std::deque<Entry> entries_;
  Ticket first_ = 1;
};

class Timeline {
 public:
  Timeline(const DeviceClock&, Tickets&);
  void set_observer(Observer* observer) { observer_ = observer; }

  struct Operation {
    WorkRecord work;  // without times
    Ticket ticket = 0;
    Ticket after = 0;  // what it waited for beside its stream, for the record of the wait
    WorkKind wait = WorkKind::wait_demand;
    std::uint32_t stamp = 0;
    bool open = false;  // its work is not known yet: see close
  };
  // The stamp for the operation's kernels. At most kStamps operations may be unfinished. Operations of other streams
  // are told in the order in which they were begun, each from where the one before ended.
  Stamp begin(Operation, int stream = 0);
  // The work of the newest operation, which was begun open: told when the host learned what the device had chosen.
  void close(Work, std::size_t rows, std::uint16_t expert);
  // Tells the observer of what is done, in order, and completes its tickets.
  void collect();
  bool empty() const { return operations_.empty(); }
  std::uint64_t device_end(std::uint32_t stamp) const { return stamps()[2 * stamp + 1]; }
  std::uint32_t last_stamp() const { return place(next_ - 1); }

 private:
  static constexpr std::uint32_t kStamps = 1 << 14;
  static constexpr int kStreams = 8;
  volatile std::uint64_t* stamps() const { return stamps_.data(); }
  static std::uint32_t place(std::uint32_t number) { return number % kStamps; }

  const DeviceClock& clock_;
  Tickets& tickets_;
  Observer* observer_ = nullptr;
  MappedArray<std::uint64_t> stamps_;    // start, end
  DeviceArray<std::uint32_t> counters_;  // by stream
  std::deque<Operation> operations_;
  std::uint32_t next_ = 0;
  TimeNs last_end_ns_ = 0;
};

}  // namespace expertscope::cuda
