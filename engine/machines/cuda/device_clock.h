// The device's nanosecond timer in terms of the session's clock, CLOCK_MONOTONIC since the machine was made.
//
// At the start the device answers the host some dozens of times, which fixes the difference to about a microsecond.
// After that both drift, so every mail that the host sees arrive tells an upper bound of the difference; the lowest of
// a quarter of a second, less what such a mail took at best at the start, is the next difference.
#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

#include "engine/ids.h"

namespace expertscope::cuda {

class DeviceClock {
 public:
  explicit DeviceClock(cudaStream_t stream);  // waits for the stream

  static std::int64_t monotonic_ns();
  std::int64_t origin_ns() const { return origin_ns_; }  // CLOCK_MONOTONIC at session time 0
  TimeNs now() const { return monotonic_ns() - origin_ns_; }

  TimeNs to_session(std::uint64_t device_ns) const { return static_cast<TimeNs>(device_ns - base_) + offset_ns_; }
  // The host saw at host_ns what the device had stamped with device_ns.
  void saw(std::uint64_t device_ns, TimeNs host_ns);
  TimeNs residual_ns() const { return residual_ns_; }  // half the round trip that fixed the difference

 private:
  std::int64_t origin_ns_ = 0;
  std::uint64_t base_ = 0;  // device time of the first answer
  TimeNs offset_ns_ = 0;    // session time of base_
  TimeNs residual_ns_ = 0;
  TimeNs best_mail_ns_ = -1;  // the fastest mail of the first window
  TimeNs window_end_ns_ = 0, lowest_ns_ = 0;
  bool window_open_ = false;
};

}  // namespace expertscope::cuda
