// CUPTI itself on a real device, launched through the CUDA runtime as the engine does. Each run is a program of its
// own: what a process does with CUPTI first stays with it. Skipped where there is no device; prints what tracing costs.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include <gtest/gtest.h>

#ifdef ES_FAKE_CUPTI
#include <cuda_runtime_api.h>

#include "profiler/cupti_metrics.h"
#include "profiler/cupti_tracer.h"
#include "profiler/health.h"
#include "tests/profiler/gpu_recording.h"

namespace expertscope {
namespace {

using test::monotonic_ns;
using test::Recording;

// Burns some microseconds.
constexpr const char* kKernel = R"(
.version 7.0
.target sm_70
.address_size 64
.visible .entry burn() {
  .reg .u64 %t, %end;
  .reg .pred %more;
  mov.u64 %end, %globaltimer;
  add.u64 %end, %end, 5000;
again:
  mov.u64 %t, %globaltimer;
  setp.lt.u64 %more, %t, %end;
  @%more bra again;
  ret;
}
)";
constexpr std::size_t kCopyBytes = 1 << 20;
constexpr int kIterations = 2'000;
constexpr std::uint16_t kGraphLayers = 8;
constexpr std::uint32_t kGraphSteps = 50;

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(4);
}

// Stream, kernel and memory of one run.
struct Device {
  Device() {
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
    check(cudaLibraryLoadData(&library, kKernel, nullptr, nullptr, 0, nullptr, nullptr, 0), "cudaLibraryLoadData");
    check(cudaLibraryGetKernel(&kernel, library, "burn"), "cudaLibraryGetKernel");
    check(cudaMallocHost(&host, kCopyBytes), "cudaMallocHost");
    check(cudaMalloc(&memory, kCopyBytes), "cudaMalloc");
    check(cudaMemset(memory, 0, kCopyBytes), "cudaMemset");
    launch();
    wait();
  }
  void launch() const {
    check(cudaLaunchKernel(reinterpret_cast<const void*>(kernel), dim3(1), dim3(1), nullptr, 0, stream), "launch");
  }
  void copy() const { check(cudaMemcpyAsync(memory, host, kCopyBytes, cudaMemcpyHostToDevice, stream), "copy"); }
  void wait() const { check(cudaStreamSynchronize(stream), "cudaStreamSynchronize"); }

  cudaStream_t stream = nullptr;
  cudaLibrary_t library = nullptr;
  cudaKernel_t kernel = nullptr;
  void *host = nullptr, *memory = nullptr;
};

template <typename Issue>
void tagged(Observer& observer, const LaunchTag& tag, Issue&& issue) {
  observer.on_launch_begin(tag);
  issue();
  observer.on_launch_end();
}

// Kernels and copies of many steps; returns nanoseconds of the host for each pair.
double run_steps(const Device& device, Observer& observer) {
  const std::int64_t before = monotonic_ns();
  std::int64_t waited = 0;
  for (std::uint32_t step = 0; step < kIterations; ++step) {
    tagged(observer, {.step = step, .layer = 3, .kind = WorkKind::attention}, [&] { device.launch(); });
    tagged(observer, {.step = step, .layer = 3, .expert = 7, .is_copy = true, .reason = CopyReason::demand},
           [&] { device.copy(); });
    if (step % 100 == 99) {  // the device's queue must not be what the host waits for
      const std::int64_t begin = monotonic_ns();
      device.wait();
      waited += monotonic_ns() - begin;
    }
  }
  return static_cast<double>(monotonic_ns() - before - waited) / kIterations;
}

void run_graph(const Device& device, Observer& observer) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  check(cudaStreamBeginCapture(device.stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  for (std::uint16_t layer = 0; layer < kGraphLayers; ++layer)
    tagged(observer, {.step = 0, .layer = layer, .kind = WorkKind::router}, [&] { device.launch(); });
  check(cudaStreamEndCapture(device.stream, &graph), "cudaStreamEndCapture");
  check(cudaGraphInstantiate(&executable, graph, 0), "cudaGraphInstantiate");
  for (std::uint32_t step = 0; step < kGraphSteps; ++step) {
    tagged(observer, {.step = 10'000 + step, .kind = WorkKind::embed},
           [&] { check(cudaGraphLaunch(executable, device.stream), "cudaGraphLaunch"); });
  }
  device.wait();
}

int failures = 0;
void expect(bool holds, const char* what) {
  if (holds) return;
  ++failures;
  std::fprintf(stderr, "does not hold: %s\n", what);
}

bool is_of_graph(const GpuKernelRecord& kernel) {
  return unpack_tag(kernel.tag).step >= 10'000;
}

void check_records(const Recording& recording, const Trace& trace, TimeNs last_ns, bool with_graph) {
  const CuptiNumbers numbers = cupti_numbers(trace);
  std::printf("CUPTI %s, clock %s: %llu kernels, %llu copies, joined %.4f, dropped %llu\n",
              trace.wall.at(cupti_fact::kVersion).c_str(), trace.wall.at(cupti_fact::kClock).c_str(),
              static_cast<unsigned long long>(numbers.kernels), static_cast<unsigned long long>(numbers.copies),
              numbers.joined_share(), static_cast<unsigned long long>(numbers.dropped));
  expect(numbers.dropped == 0, "nothing was dropped");
  expect(!trace.health.contains(health_code::kCuptiNoTimes), "every record has its times");
  expect(numbers.joined_share() == 1, "every kernel and copy is joined");
  expect(numbers.kernels == kIterations + (with_graph ? kGraphLayers * kGraphSteps : 0u), "every kernel was seen");
  expect(numbers.expert_copy_bytes == static_cast<std::int64_t>(kCopyBytes) * kIterations, "every byte was seen");
  constexpr TimeNs kSlackNs = 50'000;
  std::uint32_t nodes_in_their_layer = 0;
  for (const GpuKernelRecord& k : recording.kernels) {
    if (is_of_graph(k) && unpack_tag(k.tag).kind == WorkKind::router) ++nodes_in_their_layer;
    if (k.end_ns <= last_ns + kSlackNs && k.end_ns - k.start_ns >= 4'000) continue;
    expect(false, "kernels lie within the run, and are as long as they burn");
    break;
  }
  if (with_graph) expect(nodes_in_their_layer == kGraphLayers * kGraphSteps, "a graph's kernels know their layers");
  expect(trace.gpu_totals.syncs > 0, "waits were seen");
}

[[noreturn]] void run_traced(const CuptiActivityOptions& options, bool with_graph) {
  Recording recording;
  CuptiTracer tracer(recording.recorder(), {.activity = options, .period = std::chrono::milliseconds(100)});
  if (!tracer.active()) {
    recording.start();
    for (const auto& [code, note] : recording.finish().health)
      std::fprintf(stderr, "%s: %s\n", code.c_str(), note.text.c_str());
    std::exit(3);
  }
  const Device device;
  recording.restart_clock();  // what came so far was loading
  recording.start();
  run_steps(device, recording.recorder());
  if (with_graph) run_graph(device, recording.recorder());
  const std::int64_t end = monotonic_ns() - recording.origin_ns();
  tracer.stop();
  const Trace& trace = recording.finish();
  check_records(recording, trace, end, with_graph);
  std::fflush(stdout);
  std::exit(failures == 0 ? 0 : 1);
}

// Host time of a launch and a copy together, with a recorder and no tracer, and with each way of tracing.
[[noreturn]] void run_cost(const char* name, const CuptiActivityOptions* options) {
  Recording recording;
  std::unique_ptr<CuptiTracer> tracer;
  if (options) tracer = std::make_unique<CuptiTracer>(recording.recorder(), CuptiTracerOptions{.activity = *options});
  const Device device;
  recording.restart_clock();
  recording.start();
  run_steps(device, recording.recorder());  // warm
  std::printf("%s: %.0f ns of the host for a launch and a copy\n", name, run_steps(device, recording.recorder()));
  std::fflush(stdout);
  if (tracer) tracer->stop();
  std::exit(0);
}

class CuptiOnADevice : public ::testing::Test {
 protected:
  void SetUp() override {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) GTEST_SKIP() << "there is no CUDA device here";
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    unsetenv("CUPTI_LIBRARY");
  }
};

TEST_F(CuptiOnADevice, SeesEveryKernelAndByteAndJoinsThem) {
  EXPECT_EXIT(run_traced({}, false), ::testing::ExitedWithCode(0), "");
}

TEST_F(CuptiOnADevice, TellsTheKernelsOfAGraphApart) {
  EXPECT_EXIT(run_traced({}, true), ::testing::ExitedWithCode(0), "");
}

TEST_F(CuptiOnADevice, FitsTheClocksWithoutACallback) {
  EXPECT_EXIT(run_traced({.register_clock = false}, false), ::testing::ExitedWithCode(0), "");
}

TEST_F(CuptiOnADevice, JoinsByRecordsOfTheRuntimesCallsAlone) {
  EXPECT_EXIT(run_traced({.trace_driver_calls = false}, false), ::testing::ExitedWithCode(0), "");
}

TEST_F(CuptiOnADevice, JoinsByRecordsOfTheDriversCallsAlone) {
  EXPECT_EXIT(run_traced({.trace_runtime_calls = false}, false), ::testing::ExitedWithCode(0), "");
}

TEST_F(CuptiOnADevice, CostsTheHostSoMuch) {
  const CuptiActivityOptions both, runtime{.trace_driver_calls = false}, driver{.trace_runtime_calls = false};
  EXPECT_EXIT(run_cost("no tracer", nullptr), ::testing::ExitedWithCode(0), "");
  EXPECT_EXIT(run_cost("runtime and driver calls", &both), ::testing::ExitedWithCode(0), "");
  EXPECT_EXIT(run_cost("runtime calls", &runtime), ::testing::ExitedWithCode(0), "");
  EXPECT_EXIT(run_cost("driver calls", &driver), ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace expertscope

#endif
