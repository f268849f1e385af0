#include <ctime>

#include "engine/machines/cuda/device.h"
#include "engine/machines/cuda/device_clock.h"
#include "engine/machines/cuda/kernels.h"

namespace expertscope::cuda {
namespace {

constexpr int kRounds = 64;
constexpr TimeNs kWindowNs = 250'000'000;
constexpr TimeNs kMostDriftNs = 1'000'000;  // of one window: 4,000 ppm; more is not drift

}  // namespace

std::int64_t DeviceClock::monotonic_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

DeviceClock::DeviceClock(cudaStream_t stream) : origin_ns_(monotonic_ns()) {
  const MappedArray<std::uint32_t> flags(64);  // asked and answered, on lines of their own
  const MappedArray<std::uint64_t> times(kRounds);
  volatile std::uint32_t* ask = flags.data();
  volatile std::uint32_t* answered = flags.data() + 32;
  answer(ask, times.data(), answered, kRounds, stream);
  TimeNs shortest = INT64_MAX;
  for (std::uint32_t round = 1; round <= kRounds; ++round) {
    const TimeNs before = now();
    *ask = round;
    while (*answered < round) {
      // A device that never answers would hang the start for ever.
      if (now() - before > 5'000'000'000) check(cudaErrorLaunchTimeout, "comparing clocks");
    }
    const TimeNs after = now();
    const std::uint64_t device = static_cast<volatile std::uint64_t*>(times.data())[round - 1];
    if (round == 1) base_ = device;
    if (after - before >= shortest) continue;
    shortest = after - before;
    offset_ns_ = (before + after) / 2 - static_cast<TimeNs>(device - base_);
  }
  residual_ns_ = shortest / 2;
  check(cudaStreamSynchronize(stream), "comparing clocks");
}

void DeviceClock::saw(std::uint64_t device_ns, TimeNs host_ns) {
  const TimeNs bound = host_ns - static_cast<TimeNs>(device_ns - base_);
  if (!window_open_) {
    window_open_ = true;
    window_end_ns_ = host_ns + kWindowNs;
    lowest_ns_ = bound;
    return;
  }
  lowest_ns_ = bound < lowest_ns_ ? bound : lowest_ns_;
  if (host_ns < window_end_ns_) return;
  if (best_mail_ns_ < 0) {
    best_mail_ns_ = lowest_ns_ > offset_ns_ ? lowest_ns_ - offset_ns_ : 0;
  } else {
    const TimeNs found = lowest_ns_ - best_mail_ns_;
    if (found - offset_ns_ < kMostDriftNs && offset_ns_ - found < kMostDriftNs) offset_ns_ = found;
  }
  window_open_ = false;
}

}  // namespace expertscope::cuda
