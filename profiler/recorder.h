// From the engine's hook to batches: the Recorder takes records on the engine's thread into rings, the Collector
// empties them on its own thread and hands immutable batches to whoever subscribed.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "engine/observer.h"
#include "engine/run_info.h"
#include "profiler/batch_queue.h"
#include "profiler/launch_listener.h"
#include "profiler/ring.h"

namespace expertscope {

enum class WhenFull : std::uint8_t {
  push_back,  // the engine waits: nothing is ever lost (emulated machines, whose time is modelled)
  drop,       // the record is lost and counted in health (real machines, whose time must not be disturbed)
};

struct RecorderOptions {
  WhenFull when_full = WhenFull::push_back;
  std::size_t event_capacity = 1 << 16;  // rounded up to powers of two
  std::size_t route_capacity = 1 << 13;
  std::size_t gpu_capacity = 1 << 22;  // kernels and copies of the device that wait for the collector
};

// Events and routes come from one thread, and are taken without a lock or an allocation. The rare records may come from
// any thread; those of the engine's thread keep their place among its events: a batch never holds an event without the
// rare records that were emitted before it.
class Recorder : public Observer {
 public:
  explicit Recorder(RecorderOptions = {});

  void on_start(const RunInfo&) override;
  void on_event(const Event&) override;
  void on_route(const RouteRecord&) override;
  void on_epoch(const EpochRecord&) override;
  void on_prompt(const PromptRecord&) override;
  void on_mark(const MarkRecord&) override;
  void on_health(const HealthNote&) override;
  void on_piece(std::int32_t id, std::string_view bytes) override;
  void on_logits(const LogitsRecord&) override;
  void on_quality(const QualityRecord&) override;

  void on_launch_begin(const LaunchTag& tag) override {
    if (launches_ != nullptr) [[unlikely]]
      launches_->begin(tag);
  }
  void on_launch_end() override {
    if (launches_ != nullptr) [[unlikely]]
      launches_->end();
  }

  // Who hears of launches; nullptr for nobody. Engine's thread, or before the engine starts.
  void set_launch_listener(LaunchListener* listener) { launches_ = listener; }
  // Device memory that recording takes: it is part of the run's memory from the next on_start() on. Before the engine
  // starts.
  void set_device_bytes(std::int64_t bytes) { device_bytes_ = bytes; }
  // What a device did, in times of CLOCK_MONOTONIC. They reach a batch once on_start() has told the session's clock.
  // Any thread.
  void on_gpu_records(GpuRecords&&);

  // A fact that may differ between two equal runs: dates, paths, the host, measured overheads.
  void set_wall(std::string key, std::string value);

  std::uint64_t events() const { return events_.pushed(); }
  std::uint64_t dropped() const { return dropped_.load(std::memory_order_relaxed); }
  std::chrono::nanoseconds waited() const;  // what push_back cost the engine so far
  std::int64_t memory_bytes() const;        // of the rings

 private:
  friend class Collector;
  using Fact = std::pair<std::string, std::string>;
  struct Piece {
    std::int32_t id;
    std::string bytes;
  };
  using Rare = std::variant<RunInfo, EpochRecord, PromptRecord, MarkRecord, HealthNote, Piece, LogitsRecord,
                            QualityRecord, Fact>;
  struct RareEntry {
    std::uint64_t events_before;
    Rare record;
  };

  template <typename T>
  void push(Ring<T>&, const T&);
  void push_rare(Rare);
  void wake_collector();
  void drain_gpu_into(Batch&);
  void drain_into(Batch&);  // collector's thread: everything up to the last event, no rare record out of its place

  const RecorderOptions options_;
  Ring<Event> events_;
  Ring<RouteRecord> routes_;
  std::mutex rare_mutex_;
  std::vector<RareEntry> rare_;
  LaunchListener* launches_ = nullptr;
  std::int64_t device_bytes_ = 0;
  std::mutex gpu_mutex_;  // of the two below
  GpuRecords gpu_;
  struct SessionClock {
    std::int64_t origin_ns = 0;   // CLOCK_MONOTONIC at session time 0
    std::int64_t started_ns = 0;  // and when the run was first told of: the device's work before that was loading
  };
  std::optional<SessionClock> clock_;
  std::uint64_t gpu_before_start_ = 0;  // collector's thread
  std::atomic<std::uint64_t> dropped_{0};
  std::atomic<std::int64_t> waited_ns_{0};
  std::atomic<bool> wake_wanted_{false};
  std::condition_variable wake_;  // the collector sleeps on it, with its own mutex and a time limit
};

// Starts its thread at once. Everything here may be called from any thread but the collector's own.
class Collector {
 public:
  explicit Collector(Recorder&, std::chrono::milliseconds period = std::chrono::milliseconds(20),
                     std::vector<std::shared_ptr<BatchQueue>> subscribers = {});
  ~Collector();  // hands on what is there; the session counts as not ended unless close() was called
  Collector(const Collector&) = delete;
  Collector& operator=(const Collector&) = delete;

  // The queue gets every batch from now on; subscribe before the engine starts to get all.
  void subscribe(std::shared_ptr<BatchQueue>);
  // Returns when every record emitted before the call has been handed to the queues.
  void flush();
  // Hands on the rest, marks the session as ended (in order, or not when the run failed) and closes the queues.
  void close(bool ended_in_order = true);

 private:
  void run();
  void hand_on(bool last);

  Recorder& recorder_;
  const std::chrono::milliseconds period_;
  std::mutex mutex_;
  std::condition_variable done_;
  std::vector<std::shared_ptr<BatchQueue>> queues_;
  std::uint64_t flush_wanted_ = 0, flush_done_ = 0;
  bool stop_ = false, ended_in_order_ = false;
  std::thread thread_;
};

}  // namespace expertscope
