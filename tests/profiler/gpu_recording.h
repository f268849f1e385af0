// A recording of a made-up run with whatever traces its device.
#pragma once

#include <chrono>
#include <ctime>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "profiler/recorder.h"
#include "tests/profiler/sample_run.h"

namespace expertscope::test {

inline std::int64_t monotonic_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

// A recorder with everything behind it, and what came out at the end.
class Recording {
 public:
  Recording() { info_.clock_origin_ns = monotonic_ns(); }

  Recorder& recorder() { return recorder_; }
  void restart_clock() { info_.clock_origin_ns = monotonic_ns(); }  // before start()
  std::int64_t origin_ns() const { return info_.clock_origin_ns; }
  void start() {
    recorder_.on_start(info_);
    started_ns_ = monotonic_ns();
  }
  // CLOCK_MONOTONIC, a moment from which on the device's work belongs to the session.
  std::int64_t started_ns() const { return started_ns_; }

  const Trace& finish() {
    collector_.close();
    for (const BatchPtr& batch : queue_->take()) {
      trace_.append(*batch);
      kernels.insert(kernels.end(), batch->gpu.kernels.begin(), batch->gpu.kernels.end());
      for (const auto& [id, text] : batch->gpu.strings) strings[id] = text;
    }
    return trace_;
  }

  std::vector<GpuKernelRecord> kernels;
  std::map<std::uint32_t, std::string> strings;

 private:
  std::int64_t started_ns_ = 0;
  RunInfo info_ = SampleRun::info();
  Recorder recorder_;
  std::shared_ptr<BatchQueue> queue_ = std::make_shared<BatchQueue>();
  Collector collector_{recorder_, std::chrono::milliseconds(1), {queue_}};
  Trace trace_;
};

}  // namespace expertscope::test
