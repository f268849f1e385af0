#include "engine/machines/lane_simulation.h"

#include <algorithm>
#include <cmath>

#include "engine/assert.h"

namespace expertscope {
namespace {

// Work smaller than this many nanoseconds is rounding error of the rates.
constexpr double kNothing = 1e-3;
constexpr TimeNs kNever = std::numeric_limits<TimeNs>::max();

bool is_copy_lane(Lane lane) {
  return lane == Lane::h2d || lane == Lane::d2h || lane == Lane::storage;
}

}  // namespace

LaneSimulation::LaneSimulation(LaneEvents& events, int devices, double host_bytes_per_s, double shared_host_bytes_per_s)
    : events_(events),
      host_bytes_per_s_(host_bytes_per_s),
      shared_host_bytes_per_s_(shared_host_bytes_per_s),
      devices_(devices) {
  // Per device: gpu, h2d, d2h; then the lanes of the host.
  for (int d = 0; d < devices; ++d) {
    for (Lane lane : {Lane::gpu, Lane::h2d, Lane::d2h}) lanes_.push_back({.lane = lane});
  }
  for (Lane lane : {Lane::cpu, Lane::storage}) lanes_.push_back({.lane = lane});
}

std::size_t LaneSimulation::lane_index(Lane lane, std::uint8_t device) const {
  const auto of_device = std::size_t{3} * device;
  const auto shared = static_cast<std::size_t>(3 * devices_);
  switch (lane) {
    case Lane::gpu:
      return of_device;
    case Lane::h2d:
      return of_device + 1;
    case Lane::d2h:
      return of_device + 2;
    case Lane::cpu:
      return shared;
    default:
      return shared + 1;
  }
}

bool LaneSimulation::is_idle(Lane lane, std::uint8_t device) const {
  const LaneState& state = lanes_[lane_index(lane, device)];
  return state.running == nullptr && state.queued == 0;
}

Ticket LaneSimulation::add(LaneOp op, const Ticket* after, std::size_t after_count) {
  op.ticket = first_ + ops_.size();
  op.issued_ns = now_;
  op.fixed_left = op.fixed_ns;
  op.work_left = op.work_ns;
  for (std::size_t i = 0; i < after_count; ++i) {
    if (after[i] == 0 || done(after[i])) continue;
    at(after[i]).dependents.push_back(op.ticket);
    ++op.pending;
  }
  const Ticket ticket = op.ticket;
  LaneState& lane = lane_of(op);
  ES_ASSERT(op.copy_class < kClasses, "copy class out of range");
  lane.queue[is_copy_lane(op.lane) ? op.copy_class : 0].push_back(ticket);
  ++lane.queued;
  ops_.push_back(std::move(op));
  start_idle_lanes();
  return ticket;
}

const LaneOp& LaneSimulation::find(Ticket t) const {
  ES_ASSERT(t >= first_ && t - first_ < ops_.size(), "unknown ticket");
  return ops_[t - first_];
}

TimeNs LaneSimulation::done_ns(Ticket t) const {
  const LaneOp& op = find(t);
  ES_ASSERT(op.state == LaneOp::State::done, "asked when an unfinished operation ended");
  return op.done_ns;
}

// The operation that an idle lane runs next: the head of a queue, or of a copy lane the first ready one of the best
// class.
LaneOp* LaneSimulation::next_on(LaneState& lane) {
  const std::size_t classes = is_copy_lane(lane.lane) ? kClasses : 1;
  for (std::size_t c = 0; c < classes; ++c) {
    auto& queue = lane.queue[c];
    for (auto it = queue.begin(); it != queue.end(); ++it) {
      LaneOp& op = at(*it);
      if (op.pending == 0) {
        queue.erase(it);
        --lane.queued;
        return &op;
      }
      if (classes == 1) return nullptr;
    }
  }
  return nullptr;
}

bool LaneSimulation::better_copy_waits(LaneState& lane, const LaneOp& running) {
  for (int c = 0; c < running.copy_class; ++c) {
    for (Ticket t : lane.queue[static_cast<std::size_t>(c)]) {
      if (at(t).pending == 0) return true;
    }
  }
  return false;
}

void LaneSimulation::start_idle_lanes() {
  for (LaneState& lane : lanes_) {
    if (lane.running != nullptr || lane.queued == 0) continue;
    if (LaneOp* op = next_on(lane)) start(lane, *op);
  }
}

void LaneSimulation::start(LaneState& lane, LaneOp& op) {
  op.state = LaneOp::State::running;
  op.started_ns = now_;
  op.work_at_start = op.work_left;
  lane.running = &op;
  events_.started(op, std::max(lane.free_ns, op.issued_ns));
}

// The factor by which the users of host memory are slowed down.
double LaneSimulation::host_share() const {
  double wanted = 0;
  bool cpu = false, link = false;
  for (const LaneState& lane : lanes_) {
    const LaneOp* op = lane.running;
    if (op == nullptr || op->host_bytes_per_s <= 0 || op->fixed_left > 0) continue;
    wanted += op->host_bytes_per_s;
    (op->lane == Lane::cpu ? cpu : link) = true;
  }
  const double there = cpu && link ? shared_host_bytes_per_s_ : host_bytes_per_s_;
  return wanted > there ? there / wanted : 1;
}

// Work left until the operation completes or, when a better copy waits, until its next chunk boundary.
double LaneSimulation::work_to_event(LaneState& lane, const LaneOp& op) {
  if (op.chunk_bytes <= 0 || op.bytes <= op.chunk_bytes || !better_copy_waits(lane, op)) return op.work_left;
  const double chunk_work = op.work_ns * static_cast<double>(op.chunk_bytes) / static_cast<double>(op.bytes);
  const double chunks_left = std::floor(op.work_left / chunk_work + 1e-9);
  return std::max(0.0, op.work_left - chunks_left * chunk_work);
}

TimeNs LaneSimulation::next_event() {
  TimeNs next = kNever;
  const double share = host_share();
  for (LaneState& lane : lanes_) {
    if (lane.running == nullptr) continue;
    const LaneOp& op = *lane.running;
    double left = op.fixed_left;
    if (left <= 0) left = work_to_event(lane, op) / (op.host_bytes_per_s > 0 ? share : 1);
    next = std::min(next, now_ + static_cast<TimeNs>(std::ceil(left - kNothing)));
  }
  return std::max(next, now_);
}

void LaneSimulation::progress(TimeNs to) {
  const double dt = static_cast<double>(to - now_);
  const double share = host_share();
  for (LaneState& lane : lanes_) {
    if (lane.running == nullptr) continue;
    LaneOp& op = *lane.running;
    double& left = op.fixed_left > 0 ? op.fixed_left : op.work_left;
    const bool in_work = &left == &op.work_left;
    left -= dt * (in_work && op.host_bytes_per_s > 0 ? share : 1);
    if (left < kNothing) left = 0;
  }
  now_ = to;
}

void LaneSimulation::complete(LaneState& lane) {
  LaneOp& op = *lane.running;
  if (op.work_left < kNothing) op.work_left = 0;
  const double share_done = op.work_ns > 0 ? (op.work_at_start - op.work_left) / op.work_ns : 1;
  const bool last = op.work_left <= 0;
  const auto piece_bytes = static_cast<std::int64_t>(std::llround(share_done * static_cast<double>(op.bytes)));
  lane.running = nullptr;
  lane.free_ns = now_;
  if (last) {
    op.state = LaneOp::State::done;
    op.done_ns = now_;
  } else {
    op.state = LaneOp::State::queued;
    lane.queue[op.copy_class].push_front(op.ticket);
    ++lane.queued;
  }
  const Ticket ticket = op.ticket;  // handlers may queue, which keeps references into a deque's elements valid
  if (last || now_ > op.started_ns) events_.ran(op, now_, piece_bytes, last);
  if (!last) return;
  for (Ticket d : op.dependents) {
    LaneOp& dependent = at(d);
    if (--dependent.pending == 0) dependent.last_dependency = ticket;
  }
  events_.completed(op);
}

// Completes everything that ends now, in the order it was queued.
void LaneSimulation::finish_due() {
  while (true) {
    LaneState* due = nullptr;
    for (LaneState& lane : lanes_) {
      if (lane.running == nullptr) continue;
      const LaneOp& op = *lane.running;
      if (op.fixed_left > 0 || work_to_event(lane, op) > kNothing) continue;
      if (due == nullptr || op.ticket < due->running->ticket) due = &lane;
    }
    if (due == nullptr) return;
    complete(*due);
    start_idle_lanes();
  }
}

void LaneSimulation::advance_to(TimeNs to) {
  ES_ASSERT(to >= now_, "simulated time runs backwards");
  while (true) {
    const TimeNs next = next_event();
    if (next > to) break;
    progress(next);
    finish_due();
  }
  if (to > now_) progress(to);
}

TimeNs LaneSimulation::run_until(Ticket t) {
  while (!done(t)) {
    const TimeNs next = next_event();
    ES_ASSERT(next != kNever, "waits for an operation that can never run");
    progress(next);
    finish_due();
  }
  return t < first_ ? now_ : at(t).done_ns;
}

void LaneSimulation::change_class(Ticket t, std::uint8_t copy_class) {
  if (done(t)) return;
  LaneOp& op = at(t);
  if (op.state == LaneOp::State::queued) {
    LaneState& lane = lane_of(op);
    auto& from = lane.queue[op.copy_class];
    from.erase(std::find(from.begin(), from.end(), t));
    lane.queue[copy_class].push_back(t);
  }
  op.copy_class = copy_class;
}

bool LaneSimulation::cancel(Ticket t) {
  if (done(t)) return false;
  LaneOp& op = at(t);
  if (op.state != LaneOp::State::queued || op.work_left < op.work_ns || !op.dependents.empty()) return false;
  auto& queue = lane_of(op).queue[op.copy_class];
  queue.erase(std::find(queue.begin(), queue.end(), t));
  --lane_of(op).queued;
  op.state = LaneOp::State::cancelled;
  return true;
}

void LaneSimulation::forget_done() {
  while (!ops_.empty() &&
         (ops_.front().state == LaneOp::State::done || ops_.front().state == LaneOp::State::cancelled)) {
    ops_.pop_front();
    ++first_;
  }
}

}  // namespace expertscope
