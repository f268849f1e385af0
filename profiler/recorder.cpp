#include "profiler/recorder.h"

#include <type_traits>

#include "engine/assert.h"
#include "profiler/health.h"

namespace expertscope {
namespace {

void add_event(Batch& batch, const Event& event) {
  switch (event.kind) {
    case EventKind::work:
      batch.works.push_back(event.work);
      return;
    case EventKind::copy:
      batch.copies.push_back(event.copy);
      return;
    case EventKind::demand:
      batch.demands.push_back(event.demand);
      return;
    case EventKind::residency:
      batch.residency.push_back(event.residency);
      return;
    case EventKind::step:
      batch.steps.push_back(event.step);
      return;
    case EventKind::token:
      batch.tokens.push_back(event.token);
      return;
  }
}

// What CLOCK_MONOTONIC says: the standard library's steady clock on Linux.
std::int64_t monotonic_ns() {
  return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

Recorder::Recorder(RecorderOptions options)
    : options_(options), events_(options.event_capacity), routes_(options.route_capacity) {}

template <typename T>
void Recorder::push(Ring<T>& ring, const T& record) {
  if (ring.filled() > ring.capacity() / 2) {
    ring.refresh();
    if (ring.filled() > ring.capacity() / 2) wake_collector();
  }
  if (ring.try_push(record)) [[likely]]
    return;
  if (options_.when_full == WhenFull::drop) {
    dropped_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  const auto begin = std::chrono::steady_clock::now();
  do {
    // A notification between the collector's look and its sleep is lost, so it is repeated.
    wake_.notify_one();
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  } while (!ring.try_push(record));
  waited_ns_.fetch_add(std::chrono::nanoseconds(std::chrono::steady_clock::now() - begin).count(),
                       std::memory_order_relaxed);
}

void Recorder::wake_collector() {
  if (!wake_wanted_.exchange(true, std::memory_order_relaxed)) wake_.notify_one();
}

void Recorder::push_rare(Rare record) {
  const std::lock_guard lock(rare_mutex_);
  rare_.push_back({events_.pushed(), std::move(record)});
}

void Recorder::on_event(const Event& event) {
  push(events_, event);
}
void Recorder::on_route(const RouteRecord& route) {
  push(routes_, route);
}
void Recorder::on_start(const RunInfo& info) {
  {
    const std::lock_guard lock(gpu_mutex_);
    if (!clock_) clock_ = {.started_ns = monotonic_ns()};
    clock_->origin_ns = info.clock_origin_ns;
  }
  RunInfo with_recording = info;
  with_recording.memory.profiler_bytes += device_bytes_;
  with_recording.memory.gpu_peak_bytes += device_bytes_;
  push_rare(std::move(with_recording));
}
void Recorder::on_epoch(const EpochRecord& epoch) {
  push_rare(epoch);
}
void Recorder::on_prompt(const PromptRecord& prompt) {
  push_rare(prompt);
}
void Recorder::on_mark(const MarkRecord& mark) {
  push_rare(mark);
}
void Recorder::on_health(const HealthNote& note) {
  push_rare(note);
}
void Recorder::on_piece(std::int32_t id, std::string_view bytes) {
  push_rare(Piece{id, std::string(bytes)});
}
void Recorder::on_logits(const LogitsRecord& logits) {
  push_rare(logits);
}
void Recorder::on_quality(const QualityRecord& quality) {
  push_rare(quality);
}
void Recorder::on_gpu_records(GpuRecords&& records) {
  const std::uint64_t more = records.kernels.size() + records.copies.size();
  {
    const std::lock_guard lock(gpu_mutex_);
    if (gpu_.kernels.size() + gpu_.copies.size() + more <= options_.gpu_capacity)
      return gpu_.append(std::move(records));
    // Names and devices are told once, so they stay.
    GpuRecords names;
    names.strings = std::move(records.strings);
    names.devices = std::move(records.devices);
    gpu_.append(std::move(names));
  }
  on_health({health_code::kCuptiDropped, Severity::loss, more,
             "The recording could not keep up with CUPTI's records; kernels and copies are missing from its tables."});
}
void Recorder::set_wall(std::string key, std::string value) {
  push_rare(Fact(std::move(key), std::move(value)));
}

std::chrono::nanoseconds Recorder::waited() const {
  return std::chrono::nanoseconds(waited_ns_.load(std::memory_order_relaxed));
}

std::int64_t Recorder::memory_bytes() const {
  return static_cast<std::int64_t>(events_.capacity() * sizeof(Event) + routes_.capacity() * sizeof(RouteRecord));
}

void Recorder::drain_into(Batch& batch) {
  wake_wanted_.store(false, std::memory_order_relaxed);
  // Whatever was emitted before event number `events_end` is visible once that number is.
  const std::uint64_t events_end = events_.pushed();
  std::vector<RareEntry> rare;
  {
    const std::lock_guard lock(rare_mutex_);
    std::size_t due = 0;
    while (due < rare_.size() && rare_[due].events_before <= events_end) ++due;
    rare.assign(std::make_move_iterator(rare_.begin()),
                std::make_move_iterator(rare_.begin() + static_cast<std::ptrdiff_t>(due)));
    rare_.erase(rare_.begin(), rare_.begin() + static_cast<std::ptrdiff_t>(due));
  }
  routes_.consume_until(routes_.pushed(), [&](const RouteRecord& route) { batch.routes.push_back(route); });
  events_.consume_until(events_end, [&](const Event& event) { add_event(batch, event); });

  for (RareEntry& entry : rare) {
    std::visit(
        [&](auto&& record) {
          using T = std::decay_t<decltype(record)>;
          if constexpr (std::is_same_v<T, RunInfo>)
            batch.start = std::move(record);
          else if constexpr (std::is_same_v<T, EpochRecord>)
            batch.epochs.push_back(std::move(record));
          else if constexpr (std::is_same_v<T, PromptRecord>)
            batch.prompts.push_back(std::move(record));
          else if constexpr (std::is_same_v<T, MarkRecord>)
            batch.marks.push_back(std::move(record));
          else if constexpr (std::is_same_v<T, HealthNote>)
            batch.health.push_back(std::move(record));
          else if constexpr (std::is_same_v<T, Piece>)
            batch.pieces[record.id] = std::move(record.bytes);
          else if constexpr (std::is_same_v<T, LogitsRecord>)
            batch.logits.push_back(std::move(record));
          else if constexpr (std::is_same_v<T, QualityRecord>)
            batch.quality.push_back(record);
          else
            batch.wall[record.first] = std::move(record.second);
        },
        std::move(entry.record));
  }
  drain_gpu_into(batch);
  if (const std::uint64_t lost = dropped_.exchange(0, std::memory_order_relaxed)) {
    batch.health.push_back({health_code::kEventsDropped, Severity::loss, lost,
                            "The recording could not keep up and lost records; sums over them are too small."});
  }
}

void Recorder::drain_gpu_into(Batch& batch) {
  SessionClock clock;
  {
    const std::lock_guard lock(gpu_mutex_);
    if (!clock_ || gpu_.empty()) return;
    clock = *clock_;
    batch.gpu = std::exchange(gpu_, {});
  }
  const std::uint64_t early = move_to_session_clock(batch.gpu, clock.origin_ns, clock.started_ns);
  batch.gpu_totals = totals_of(batch.gpu);
  if (early == 0) return;
  gpu_before_start_ += early;
  batch.wall["cupti_records_before_start"] = std::to_string(gpu_before_start_);
}

Collector::Collector(Recorder& recorder, std::chrono::milliseconds period,
                     std::vector<std::shared_ptr<BatchQueue>> subscribers)
    : recorder_(recorder), period_(period), queues_(std::move(subscribers)), thread_([this] { run(); }) {}

Collector::~Collector() {
  close(false);
}

void Collector::subscribe(std::shared_ptr<BatchQueue> queue) {
  const std::lock_guard lock(mutex_);
  queues_.push_back(std::move(queue));
}

void Collector::flush() {
  std::unique_lock lock(mutex_);
  if (stop_) return;
  const std::uint64_t mine = ++flush_wanted_;
  recorder_.wake_.notify_all();
  done_.wait(lock, [&] { return flush_done_ >= mine; });
}

void Collector::close(bool ended_in_order) {
  {
    const std::lock_guard lock(mutex_);
    if (!stop_) ended_in_order_ = ended_in_order;
    stop_ = true;
    recorder_.wake_.notify_all();
  }
  if (!thread_.joinable()) return;
  thread_.join();
  const std::lock_guard lock(mutex_);
  for (const auto& queue : queues_) queue->close();
}

void Collector::run() {
  std::unique_lock lock(mutex_);
  bool last = false;
  while (!last) {
    recorder_.wake_.wait_for(lock, period_, [&] {
      return stop_ || flush_wanted_ > flush_done_ || recorder_.wake_wanted_.load(std::memory_order_relaxed);
    });
    last = stop_;
    const std::uint64_t flushing = flush_wanted_;
    lock.unlock();
    hand_on(last);
    lock.lock();
    flush_done_ = flushing;
    done_.notify_all();
  }
  flush_done_ = flush_wanted_;
  done_.notify_all();
}

void Collector::hand_on(bool last) {
  auto batch = std::make_shared<Batch>();
  recorder_.drain_into(*batch);
  std::vector<std::shared_ptr<BatchQueue>> queues;
  {
    const std::lock_guard lock(mutex_);
    batch->ended = last && ended_in_order_;
    queues = queues_;
  }
  if (batch->empty()) return;
  for (const auto& queue : queues) queue->push(batch);
}

}  // namespace expertscope
