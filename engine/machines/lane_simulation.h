// A discrete-event simulation of lanes in integer nanoseconds. Knows nothing of experts or models: operations with a
// fixed part, a part that runs at a rate, and dependencies. An operation's end is fixed only when simulated time passes
// it, so what is queued later can still overtake it (copies, by class, at a chunk boundary) or slow it down (users of
// host memory).
//
// Rules that make it the same on every machine: time is integer, an end is rounded up to the next nanosecond;
// operations that end together complete in the order they were queued; lanes are scanned in a fixed order.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <limits>
#include <vector>

#include "engine/ids.h"

namespace expertscope {

using Ticket = std::uint64_t;

struct LaneOp {
  // What it costs. `host_bytes_per_s` is the host memory bandwidth that it takes while its work runs at full speed;
  // when all users together want more than there is, each is slowed by the same factor.
  Lane lane = Lane::gpu;
  std::uint8_t device = 0;
  std::uint8_t copy_class = 0;  // copy lanes: smaller goes first; other lanes run in queue order
  double fixed_ns = 0;
  double work_ns = 0;
  double host_bytes_per_s = 0;
  std::int64_t bytes = 0;        // copies: for the bytes of a piece
  std::int64_t chunk_bytes = 0;  // copies: can be overtaken at multiples of this; 0: never

  std::uint32_t payload = 0;  // the owner's

  // Filled by the simulation.
  enum class State : std::uint8_t { queued, running, done, cancelled };
  State state = State::queued;
  Ticket ticket = 0;
  TimeNs issued_ns = 0, started_ns = 0, done_ns = 0;  // started: of the current piece
  Ticket last_dependency = 0;  // which of its dependencies ended last, 0 if all were done when queued
  std::uint32_t pending = 0;
  double fixed_left = 0, work_left = 0;
  double work_at_start = 0;  // work_left when the current piece started
  std::vector<Ticket> dependents;
};

// What the owner hears. Called from inside advance/run_until, in simulated order; handlers may queue operations.
class LaneEvents {
 public:
  virtual ~LaneEvents() = default;
  // `free_ns`: since when the lane could have run it (it was queued and the lane was idle).
  virtual void started(const LaneOp&, TimeNs free_ns) = 0;
  // A piece of a copy, or all of any other operation, ran over [op.started_ns, end_ns).
  virtual void ran(const LaneOp&, TimeNs end_ns, std::int64_t bytes, bool last) = 0;
  virtual void completed(const LaneOp&) = 0;
};

class LaneSimulation {
 public:
  // Host memory bandwidth for CPU experts alone or the link alone, and for both together.
  LaneSimulation(LaneEvents& events, int devices, double host_bytes_per_s, double shared_host_bytes_per_s);

  TimeNs now() const { return now_; }
  Ticket add(LaneOp op, const Ticket* after, std::size_t after_count);  // issued at now()
  void advance_to(TimeNs);                                              // completes what ends up to then
  TimeNs run_until(Ticket);  // advances until it is done; returns when that was

  bool done(Ticket t) const { return t < first_ || find(t).state == LaneOp::State::done; }
  TimeNs done_ns(Ticket t) const;  // of a done ticket not yet forgotten
  const LaneOp& find(Ticket) const;
  void change_class(Ticket, std::uint8_t copy_class);  // of a copy that is not done
  bool is_idle(Lane, std::uint8_t device) const;       // nothing runs on it, nothing is queued for it
  bool cancel(Ticket);                                 // a copy that has not begun; false otherwise
  void forget_done();                                  // lets go of operations that are done, oldest first

 private:
  static constexpr int kClasses = 8;
  struct LaneState {
    Lane lane = Lane::gpu;
    LaneOp* running = nullptr;                         // into ops_, whose elements do not move
    TimeNs free_ns = 0;                                // end of its last operation
    std::uint32_t queued = 0;                          // in all queues
    std::array<std::deque<Ticket>, kClasses> queue{};  // non-copy lanes use [0]
  };

  LaneOp& at(Ticket t) { return ops_[t - first_]; }
  std::size_t lane_index(Lane, std::uint8_t device) const;
  LaneState& lane_of(const LaneOp& op) { return lanes_[lane_index(op.lane, op.device)]; }
  LaneOp* next_on(LaneState&);
  bool better_copy_waits(LaneState&, const LaneOp& running);
  void start_idle_lanes();
  void start(LaneState&, LaneOp&);
  double host_share() const;
  double work_to_event(LaneState&, const LaneOp&);
  TimeNs next_event();
  void progress(TimeNs to);
  void finish_due();
  void complete(LaneState&);

  LaneEvents& events_;
  double host_bytes_per_s_, shared_host_bytes_per_s_;
  TimeNs now_ = 0;
  Ticket first_ = 1;
  std::deque<LaneOp> ops_;
  std::vector<LaneState> lanes_;
  int devices_;
};

}  // namespace expertscope
