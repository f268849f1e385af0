#include <algorithm>

#include "engine/machines/cuda/copy_queue.h"
#include "engine/machines/cuda/device.h"
#include "engine/machines/cuda/kernels.h"

namespace expertscope::cuda {
namespace {

// A pinned copy reaches the link's rate from a few megabytes on; more would only make a demand wait longer.
constexpr std::int64_t kChunkBytes = 4 << 20;
constexpr std::size_t kMostChunksAhead = 2;
// Larger copies lose little between them, and one should be there before the next.
constexpr std::int64_t kMostToTakeTurns = 8 << 20;
// Times of events are told as float milliseconds since another event, so that one must not be long ago.
constexpr TimeNs kBaseAgeNs = 500'000'000;
constexpr std::uint32_t kBases = 64;

int class_of(const CopyQueue::Job& job) {
  if (job.urgent) return 0;
  switch (job.request.reason) {
    case CopyReason::demand:
      return 0;
    case CopyReason::promotion:
      return 1;
    case CopyReason::prefetch:
      return 2;
    default:
      return 3;
  }
}

}  // namespace

EventPool::~EventPool() {
  for (cudaEvent_t event : free_) (void)cudaEventDestroy(event);
}

cudaEvent_t EventPool::take() {
  if (free_.empty()) {
    cudaEvent_t event = nullptr;
    check(cudaEventCreate(&event), "making an event");
    return event;
  }
  const cudaEvent_t event = free_.back();
  free_.pop_back();
  return event;
}

CopyQueue::CopyQueue(const DeviceClock& clock) : clock_(clock), bases_(kBases) {
  for (cudaStream_t& stream : streams_)
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "making a stream");
  check(cudaStreamCreateWithFlags(&stamps_stream_, cudaStreamNonBlocking), "making a stream");
  for (Base& base : bases_) base.event = events_.take();
  const MappedArray<std::uint64_t> stamp(1);
  stamp_now(stamp.data(), stamps_stream_);
  check(cudaEventRecord(bases_[0].event, stamps_stream_), "recording an event");
  check(cudaStreamSynchronize(stamps_stream_), "recording an event");
  bases_[0].device_ns = stamp[0];
  base_made_ns_ = clock_.now();
}

CopyQueue::~CopyQueue() {
  for (cudaStream_t stream : streams_) (void)cudaStreamSynchronize(stream);
  for (Chunk& chunk : running_) {
    if (chunk.begin != nullptr) events_.give(chunk.begin);
    events_.give(chunk.end);
  }
  for (Base& base : bases_) events_.give(base.event);
  for (cudaStream_t stream : streams_) (void)cudaStreamDestroy(stream);
  (void)cudaStreamDestroy(stamps_stream_);
}

void CopyQueue::fresh_base() {
  const TimeNs now = clock_.now();
  if (now - base_made_ns_ < kBaseAgeNs) return;
  find_base_time();
  base_made_ns_ = now;
  base_ = (base_ + 1) % kBases;
  bases_[base_].device_ns = 0;
  check(cudaEventRecord(bases_[base_].event, stamps_stream_), "recording an event");
}

// Of the newest base, from the one before it; its stream has nothing else to do.
void CopyQueue::find_base_time() {
  Base& base = bases_[base_];
  if (base.device_ns != 0) return;
  const Base& before = bases_[(base_ + kBases - 1) % kBases];
  float ms = 0;
  check(cudaEventSynchronize(base.event), "waiting for an event");
  check(cudaEventElapsedTime(&ms, before.event, base.event), "reading an event");
  base.device_ns = before.device_ns + static_cast<std::uint64_t>(static_cast<double>(ms) * 1e6);
}

TimeNs CopyQueue::time_of(std::uint32_t base, cudaEvent_t event) {
  find_base_time();
  float ms = 0;
  check(cudaEventElapsedTime(&ms, bases_[base].event, event), "reading an event");
  return clock_.to_session(bases_[base].device_ns) + static_cast<TimeNs>(static_cast<double>(ms) * 1e6);
}

void CopyQueue::add(const Job& job) {
  if (class_of(job) == 0) {
    Job now = job;
    hand_over(now, now.bytes);
    return;
  }
  const auto place = std::upper_bound(waiting_.begin(), waiting_.end(), job,
                                      [](const Job& a, const Job& b) { return class_of(a) < class_of(b); });
  waiting_.insert(place, job);
  hand_over_waiting();
}

// The next `most` bytes of a copy.
void CopyQueue::hand_over(Job& job, std::int64_t most) {
  fresh_base();
  if (job.handed_over == 0 && job.bytes <= kMostToTakeTurns) {
    turn_ = static_cast<std::uint8_t>((turn_ + 1) % kStreams);
    job.stream = turn_;
  }
  const cudaStream_t stream = streams_[job.stream];
  if (job.handed_over == 0 && job.after != nullptr) {
    check(cudaStreamWaitEvent(stream, job.after, 0), "queueing a copy");
    events_.give(job.after);
    job.after = nullptr;
  }
  Chunk chunk;
  chunk.bytes = std::min(most, job.bytes - job.handed_over);
  chunk.end = events_.take();
  chunk.base = base_;
  if (running_.empty()) {
    chunk.begin = events_.take();
    check(cudaEventRecord(chunk.begin, stream), "recording an event");
  }
  if (observer_ != nullptr) {
    observer_->on_launch_begin({.step = job.record.step,
                                .layer = job.record.layer,
                                .expert = job.record.expert,
                                .is_copy = true,
                                .reason = job.record.reason});
  }
  check(cudaMemcpyAsync(job.to + job.handed_over, job.from + job.handed_over, static_cast<std::size_t>(chunk.bytes),
                        cudaMemcpyHostToDevice, stream),
        "queueing a copy");
  if (observer_ != nullptr) observer_->on_launch_end();
  check(cudaEventRecord(chunk.end, stream), "recording an event");
  job.handed_over += chunk.bytes;
  chunk.last = job.handed_over == job.bytes;
  if (chunk.last) job.completed = chunk.end;
  chunk.job = job;
  chunk.handed_over_ns = clock_.now();
  running_.push_back(chunk);
}

void CopyQueue::hand_over_waiting() {
  while (!waiting_.empty() && running_.size() < kMostChunksAhead) {
    Job& job = waiting_.front();
    hand_over(job, kChunkBytes);
    if (job.handed_over == job.bytes) waiting_.pop_front();
  }
}

void CopyQueue::raise(Ticket ticket) {
  const auto job = std::find_if(waiting_.begin(), waiting_.end(), [&](const Job& j) { return j.ticket == ticket; });
  if (job == waiting_.end()) return;
  Job now = *job;
  waiting_.erase(job);
  now.urgent = true;
  hand_over(now, now.bytes - now.handed_over);
}

std::optional<CopyQueue::Job> CopyQueue::cancel(Ticket ticket) {
  const auto job = std::find_if(waiting_.begin(), waiting_.end(), [&](const Job& j) { return j.ticket == ticket; });
  if (job == waiting_.end() || job->handed_over > 0) return std::nullopt;
  if (job->after != nullptr) events_.give(job->after);
  const Job cancelled = *job;
  waiting_.erase(job);
  return cancelled;
}

std::optional<CopyReason> CopyQueue::make_wait(Ticket ticket, cudaStream_t stream) {
  raise(ticket);
  for (const Chunk& chunk : running_) {
    if (chunk.job.ticket != ticket || !chunk.last) continue;
    check(cudaStreamWaitEvent(stream, chunk.end, 0), "queueing a wait for a copy");
    return chunk.job.request.reason;
  }
  return std::nullopt;
}

bool CopyQueue::next_completed(Completed& completed) {
  while (!running_.empty()) {
    Chunk& chunk = running_.front();
    const cudaError_t state = cudaEventQuery(chunk.end);
    if (state == cudaErrorNotReady) break;
    check(state, "copying an expert");
    const TimeNs end = time_of(chunk.base, chunk.end);
    const TimeNs asked = chunk.begin != nullptr ? time_of(chunk.base, chunk.begin) : chunk.handed_over_ns;
    const TimeNs begin = std::max(last_end_ns_, std::min(end, asked));
    last_end_ns_ = std::max(end, begin);
    CopyRecord record = chunk.job.record;
    record.start_ns = std::max(begin, record.issued_ns);
    record.end_ns = std::max(last_end_ns_, record.start_ns);
    record.bytes = chunk.bytes;
    record.last = chunk.last;
    if (observer_ != nullptr) observer_->on_event(record);
    if (chunk.begin != nullptr) events_.give(chunk.begin);
    events_.give(chunk.end);
    completed = {chunk.job.ticket, chunk.job.request, chunk.job.held,
                 chunk.job.bytes,  record.end_ns,     record.end_ns - record.start_ns};
    const bool last = chunk.last;
    running_.pop_front();
    if (last) {
      hand_over_waiting();
      return true;
    }
  }
  hand_over_waiting();
  return false;
}

}  // namespace expertscope::cuda
