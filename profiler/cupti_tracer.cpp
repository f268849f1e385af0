#include "profiler/cupti_tracer.h"

#include <atomic>
#include <ctime>

#include <fmt/format.h>

#include "profiler/health.h"
#include "profiler/recorder.h"

namespace expertscope {
namespace {

std::int64_t monotonic_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

constexpr std::uint32_t kFirstOf13 = 130000, kSoundForSecondRecording = 130101;
std::atomic<int> recordings = 0;  // of this process

void warn_of_known_problems(Recorder& recorder, std::uint32_t version) {
  if (version == kFirstOf13) {
    recorder.on_health({"cupti.first_release", Severity::warning, 1,
                        "CUPTI 13.0 as first released loses records of synchronisation and may crash while it hands "
                        "records over; update 1 has this fixed."});
  }
  if (recordings++ > 0 && version < kSoundForSecondRecording) {
    recorder.on_health({"cupti.second_recording", Severity::warning, 1,
                        "Before CUDA 13.1 update 1, CUPTI may join kernels of CUDA graphs to the wrong launch in a "
                        "program's second recording; start the program anew."});
  }
}

std::string version_text(std::uint32_t version) {
  return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

}  // namespace

// Turns what is delivered into records of the session: host times, names as numbers.
class CuptiTracer::Receiver : public CuptiReceiver {
 public:
  explicit Receiver(CuptiTracer& tracer) : t_(tracer) {}

  GpuRecords rest;  // what needs no joining
  std::uint64_t without_times = 0;

  void on_call(std::uint32_t correlation, std::uint64_t tag) override { t_.joiner_.add_call(correlation, tag); }
  void on_node(std::uint64_t node, std::uint64_t tag) override { t_.joiner_.add_node(node, tag); }
  void on_clone(std::uint64_t node, std::uint64_t original) override { t_.joiner_.add_clone(node, original); }
  void on_kernel(const GpuKernelRecord& record, const char* mangled_name) override {
    GpuKernelRecord kernel = in_host_time(record);
    const CuptiNames::Ids& ids = t_.names_.of(mangled_name);
    kernel.demangled_name = ids.demangled;
    kernel.short_name = ids.short_name;
    kernel.mangled_name = ids.mangled;
    t_.joiner_.add(kernel);
  }
  void on_copy(const GpuCopyRecord& record, std::uint32_t runtime_correlation) override {
    t_.joiner_.add(in_host_time(record), runtime_correlation);
  }
  void on_memset(const GpuMemsetRecord& record) override { t_.joiner_.add(in_host_time(record)); }
  void on_sync(const GpuSyncRecord& record) override { rest.syncs.push_back(in_host_time(record)); }
  void on_overhead(const GpuOverheadRecord& record) override { rest.overheads.push_back(in_host_time(record)); }
  void on_device(const GpuDeviceRecord& record) override { rest.devices.push_back(record); }

 private:
  template <typename Record>
  Record in_host_time(Record record) {
    if (record.start_ns <= 0 || record.end_ns < record.start_ns) {
      ++without_times;
      record.start_ns = record.end_ns = 0;
    } else if (!t_.activity_->stamps_with_monotonic_clock()) {
      record.start_ns = t_.clock_.to_host(record.start_ns);
      record.end_ns = t_.clock_.to_host(record.end_ns);
    }
    return record;
  }

  CuptiTracer& t_;
};

void CuptiTracer::Forwarder::begin(const LaunchTag& tag) {
  if (tracer_.ranges_) tracer_.ranges_->begin(tag);
  if (tracer_.activity_) tracer_.activity_->push(pack(tag));
}

void CuptiTracer::Forwarder::end() {
  if (tracer_.activity_) tracer_.activity_->pop();
  if (tracer_.ranges_) tracer_.ranges_->end();
}

CuptiTracer::CuptiTracer(Recorder& recorder, const CuptiTracerOptions& options) : recorder_(recorder) {
  // CUPTI comes first: some versions crash when NVTX is called before it.
  try {
    start(options);
  } catch (const CuptiUnavailable& why) {
    recorder_.on_health({why.code(), Severity::warning, 1,
                         fmt::format("The engine's own times are used, CUPTI recorded nothing: {}.", why.what())});
  }
  ranges_ = NvtxRanges::start();
  if (activity_ || ranges_) recorder_.set_launch_listener(&forwarder_);
}

CuptiTracer::~CuptiTracer() {
  stop();
}

void CuptiTracer::start(const CuptiTracerOptions& options) {
  activity_ = CuptiActivity::start(options.activity);
  warn_of_known_problems(recorder_, activity_->version());
  recorder_.set_wall(cupti_fact::kVersion, version_text(activity_->version()));
  recorder_.set_wall(cupti_fact::kLibrary, activity_->library_path());
  recorder_.set_wall(cupti_fact::kClock, activity_->stamps_with_monotonic_clock() ? "CLOCK_MONOTONIC" : "fitted");
  tell_facts();
  recorder_.set_device_bytes(activity_->device_bytes());
  sample_clock();
  thread_ = std::thread([this, period = options.period] { run(period); });
}

std::int64_t CuptiTracer::device_bytes() const {
  return activity_ ? activity_->device_bytes() : 0;
}

void CuptiTracer::tell_facts() {
  recorder_.set_wall(cupti_fact::kHostBytes, std::to_string(activity_->host_bytes()));
  recorder_.set_wall(cupti_fact::kDeviceBytes, std::to_string(activity_->device_bytes()));
}

void CuptiTracer::sample_clock() {
  if (activity_->stamps_with_monotonic_clock()) return;
  const std::int64_t before = monotonic_ns();
  const auto now = static_cast<std::int64_t>(activity_->now_ns());
  clock_.add_sample(now, before, monotonic_ns());
}

void CuptiTracer::run(std::chrono::milliseconds period) {
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, period, [&] { return stopping_; })) {
    lock.unlock();
    sample_clock();
    deliver(false);
    lock.lock();
  }
}

void CuptiTracer::deliver(bool last) {
  Receiver receiver(*this);
  activity_->deliver(receiver, last);
  GpuRecords records = std::move(receiver.rest);
  joiner_.hand_over(records, last);
  records.strings = names_.take_new();
  recorder_.on_gpu_records(std::move(records));
  if (receiver.without_times > 0) {
    recorder_.on_health({health_code::kCuptiNoTimes, Severity::loss, receiver.without_times,
                         "CUPTI gave records without times; they are counted and lie at 0."});
  }
  if (const std::uint64_t dropped = activity_->take_dropped()) {
    recorder_.on_health({health_code::kCuptiDropped, Severity::loss, dropped,
                         "CUPTI lost records for want of buffers; kernels and copies are missing from its tables."});
  }
}

void CuptiTracer::stop() {
  if (!activity_ && !ranges_) return;
  recorder_.set_launch_listener(nullptr);
  ranges_.reset();
  if (!activity_) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    wake_.notify_all();
  }
  thread_.join();
  sample_clock();
  deliver(true);
  tell_facts();
  activity_.reset();
}

}  // namespace expertscope
