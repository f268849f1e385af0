// Expert copies, in the order that the machine's contract asks for: demand copies are handed to the
// device at once; the other classes wait here and are handed over in chunks, never more than two at a time, so that a
// demand copy overtakes them at a chunk boundary.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include <cuda_runtime_api.h>

#include "engine/machine.h"
#include "engine/machines/cuda/device_clock.h"
#include "engine/machines/cuda/host_experts.h"

namespace expertscope::cuda {

// Events by the million without making them by the million. Not thread-safe.
class EventPool {
 public:
  ~EventPool();
  cudaEvent_t take();
  void give(cudaEvent_t event) { free_.push_back(event); }

 private:
  std::vector<cudaEvent_t> free_;
};

class CopyQueue {
 public:
  explicit CopyQueue(const DeviceClock&);
  ~CopyQueue();
  CopyQueue(const CopyQueue&) = delete;
  CopyQueue& operator=(const CopyQueue&) = delete;

  struct Job {
    Ticket ticket = 0;
    ExpertCopy request;
    const std::byte* from = nullptr;
    HostExperts::Held held;  // where `from` lies: the caller's to release
    std::byte* to = nullptr;
    std::int64_t bytes = 0, handed_over = 0;
    CopyRecord record;                // without times
    cudaEvent_t after = nullptr;      // waited for first; of take_event
    cudaEvent_t completed = nullptr;  // of the last chunk, once handed over
    bool urgent = false;
    std::uint8_t stream = 0;  // of all its chunks, from the first on
  };
  void set_observer(Observer* observer) { observer_ = observer; }

  cudaEvent_t take_event() { return events_.take(); }
  void give_event(cudaEvent_t event) { events_.give(event); }
  void add(const Job&);
  void raise(Ticket);
  std::optional<Job> cancel(Ticket);  // what was to be copied, if nothing of it has begun
  // Makes the stream wait for the copy and says what the copy is for. Nothing when it has completed.
  std::optional<CopyReason> make_wait(Ticket, cudaStream_t);

  // Hands over what may be, takes back what is done and tells the observer. Returns the next completed copy, with its
  // time, or false.
  struct Completed {
    Ticket ticket = 0;
    ExpertCopy request;
    HostExperts::Held held;
    std::int64_t bytes = 0;
    TimeNs at_ns = 0, took_ns = 0;
  };
  bool next_completed(Completed&);
  bool empty() const { return waiting_.empty() && running_.empty(); }

 private:
  struct Chunk {
    Job job;  // as of this chunk
    std::int64_t bytes = 0;
    cudaEvent_t begin = nullptr;  // nullptr: when the one before had ended
    cudaEvent_t end = nullptr;
    TimeNs handed_over_ns = 0;
    std::uint32_t base = 0;
    bool last = false;
  };
  // An event whose device time is known: the first by a stamp beside it while the device was idle, each other one from
  // the one before.
  struct Base {
    cudaEvent_t event = nullptr;
    std::uint64_t device_ns = 0;  // 0: not known yet
  };
  void hand_over(Job&, std::int64_t most);
  void hand_over_waiting();
  void fresh_base();
  void find_base_time();
  TimeNs time_of(std::uint32_t base, cudaEvent_t event);

  const DeviceClock& clock_;
  Observer* observer_ = nullptr;
  // Small copies take turns: what follows the end of one (its event, another's wait) does not hold back the next.
  static constexpr std::size_t kStreams = 2;
  std::array<cudaStream_t, kStreams> streams_{};
  std::uint8_t turn_ = 0;
  cudaStream_t stamps_stream_ = nullptr;
  EventPool events_;
  std::deque<Job> waiting_;    // by class, then in order
  std::deque<Chunk> running_;  // in the order in which they were handed over
  std::vector<Base> bases_;
  std::uint32_t base_ = 0;
  TimeNs base_made_ns_ = 0;
  TimeNs last_end_ns_ = 0;
};

}  // namespace expertscope::cuda
