// CUPTI's activity interface, wrapped: one file includes CUPTI, everybody else sees this. Times are CUPTI's own.
#pragma once

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "profiler/cupti_records.h"

namespace expertscope {

// Why nothing can be recorded with CUPTI. Codes: "cupti.not_built", "cupti.no_library", "cupti.too_old",
// "cupti.no_driver", "cupti.in_use", "cupti.failed".
class CuptiUnavailable : public std::runtime_error {
 public:
  CuptiUnavailable(std::string code, const std::string& text) : std::runtime_error(text), code_(std::move(code)) {}
  const std::string& code() const { return code_; }

 private:
  std::string code_;
};

struct CuptiActivityOptions {
  // API calls are traced because external correlation lives on their records; which of the two kinds a launch needs
  // depends on who launches it (runtime or driver API).
  bool trace_runtime_calls = true, trace_driver_calls = true;
  // Have CUPTI stamp with CLOCK_MONOTONIC. Once per process; a later session keeps what the first one chose.
  bool register_clock = true;
};

// Hears the records of one delivery, on the thread that called deliver(). Names are pointers that are valid until it
// returns.
class CuptiReceiver {
 public:
  virtual ~CuptiReceiver() = default;
  virtual void on_call(std::uint32_t correlation, std::uint64_t tag) = 0;
  virtual void on_node(std::uint64_t node, std::uint64_t tag) = 0;
  virtual void on_clone(std::uint64_t node, std::uint64_t original) = 0;
  virtual void on_kernel(const GpuKernelRecord&, const char* mangled_name) = 0;
  virtual void on_copy(const GpuCopyRecord&, std::uint32_t runtime_correlation) = 0;
  virtual void on_memset(const GpuMemsetRecord&) = 0;
  virtual void on_sync(const GpuSyncRecord&) = 0;
  virtual void on_overhead(const GpuOverheadRecord&) = 0;
  virtual void on_device(const GpuDeviceRecord&) = 0;
};

// One at a time in a process. Start it before the first CUDA context is made.
class CuptiActivity {
 public:
  // CuptiUnavailable.
  static std::unique_ptr<CuptiActivity> start(const CuptiActivityOptions& = {});
  virtual ~CuptiActivity() = default;

  // Launching thread.
  virtual void push(std::uint64_t tag) = 0;
  virtual void pop() = 0;

  // One thread at a time, not a launching one. Has CUPTI return the buffers that are complete, or with `forced` all of
  // them, and tells their records.
  virtual void deliver(CuptiReceiver&, bool forced) = 0;
  // Records that CUPTI lost for want of a buffer, since the last call.
  virtual std::uint64_t take_dropped() = 0;
  // Stops recording. What was not delivered before is lost. Called by the destructor too.
  virtual void stop() = 0;

  virtual std::uint64_t now_ns() const = 0;  // CUPTI's clock
  virtual bool stamps_with_monotonic_clock() const = 0;
  virtual std::uint32_t version() const = 0;  // 130001: 13.0, update 1
  virtual const std::string& library_path() const = 0;
  virtual std::int64_t host_bytes() const = 0;    // of the buffers
  virtual std::int64_t device_bytes() const = 0;  // that CUPTI takes from the device at the start of a context
};

}  // namespace expertscope
