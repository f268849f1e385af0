// Records what the device really did beside what the engine says of it: CUPTI's records, joined to the engine's tags,
// into the recorder's batches; and ranges for tools that look on from outside.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>

#include "profiler/cupti_activity.h"
#include "profiler/cupti_clock.h"
#include "profiler/cupti_joiner.h"
#include "profiler/cupti_names.h"
#include "profiler/launch_listener.h"
#include "profiler/nvtx_ranges.h"

namespace expertscope {

class Recorder;

struct CuptiTracerOptions {
  CuptiActivityOptions activity;
  std::chrono::milliseconds period{100};  // between deliveries
};

// Wall facts of a session that CUPTI took part in.
namespace cupti_fact {
inline constexpr const char* kVersion = "cupti_version";  // there exactly when CUPTI recorded
inline constexpr const char* kLibrary = "cupti_library";
inline constexpr const char* kClock = "cupti_clock";
inline constexpr const char* kHostBytes = "cupti_host_bytes";
inline constexpr const char* kDeviceBytes = "cupti_device_bytes";
}  // namespace cupti_fact

// Make it before the machine whose device it records: CUPTI must be there before the first CUDA context. The recorder
// outlives it, and is given to the engine only afterwards.
class CuptiTracer {
 public:
  // Without CUPTI (no library, no driver, held by another tool) the recorder's health says why, nothing is traced, and
  // the run goes on with the engine's own times.
  explicit CuptiTracer(Recorder&, const CuptiTracerOptions& = {});
  ~CuptiTracer();  // stop()
  CuptiTracer(const CuptiTracer&) = delete;
  CuptiTracer& operator=(const CuptiTracer&) = delete;

  bool active() const { return activity_ != nullptr; }
  // Device memory that CUPTI takes when the context is made; 0 when not active.
  std::int64_t device_bytes() const;

  // Engine's thread, once everything that was launched has finished and before Collector::close(): the last records go
  // to the recorder. Nothing is traced afterwards.
  void stop();

 private:
  class Receiver;
  class Forwarder : public LaunchListener {
   public:
    explicit Forwarder(CuptiTracer& tracer) : tracer_(tracer) {}
    void begin(const LaunchTag&) override;
    void end() override;

   private:
    CuptiTracer& tracer_;
  };

  void start(const CuptiTracerOptions&);
  void run(std::chrono::milliseconds period);
  void deliver(bool last);
  void sample_clock();
  void tell_facts();

  Recorder& recorder_;
  std::unique_ptr<CuptiActivity> activity_;
  std::unique_ptr<NvtxRanges> ranges_;
  Forwarder forwarder_{*this};

  // The delivering thread's own.
  CuptiJoiner joiner_;
  CuptiNames names_;
  CuptiClock clock_;

  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace expertscope
