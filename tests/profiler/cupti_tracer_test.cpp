// Recording with CUPTI as a user meets it: with a library that keeps its rules, without one, without a driver, and with
// another tool in the way.
#include "profiler/cupti_tracer.h"

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <thread>

#include <gtest/gtest.h>

#include "profiler/cupti_metrics.h"
#include "profiler/health.h"
#include "tests/profiler/gpu_recording.h"
#ifdef ES_FAKE_CUPTI
#include <dlfcn.h>

#include "tests/fake_cupti/fake_cupti.h"
#endif

namespace expertscope {
namespace {

using test::monotonic_ns;
using test::Recording;

// Traces nothing, says why, and the recording goes on.
void expect_fallback(const std::string& code, const std::string& words) {
  Recording recording;
  CuptiTracer tracer(recording.recorder());
  EXPECT_FALSE(tracer.active());
  recording.start();
  recording.recorder().on_launch_begin({.step = 1});
  recording.recorder().on_launch_end();
  recording.recorder().on_event(StepRecord{});
  tracer.stop();
  const Trace& trace = recording.finish();
  ASSERT_TRUE(trace.health.contains(code)) << (trace.health.empty() ? "" : trace.health.begin()->second.text);
  EXPECT_EQ(trace.health.at(code).severity, Severity::warning);
  EXPECT_NE(trace.health.at(code).text.find(words), std::string::npos) << trace.health.at(code).text;
  EXPECT_EQ(trace.steps.size(), 1u);
  EXPECT_FALSE(cupti_numbers(trace).recorded);
}

#ifndef ES_FAKE_CUPTI

TEST(CuptiTracer, SaysThatTheProgramWasBuiltWithoutCuda) {
  expect_fallback("cupti.not_built", "built without CUDA");
}

#else

TEST(CuptiTracer, SaysThatTheLibraryIsMissing) {
  setenv("CUPTI_LIBRARY", "/nowhere/libcupti.so.13", 1);
  expect_fallback("cupti.no_library", "there is no /nowhere/libcupti.so.13");
}

TEST(CuptiTracer, SaysThatTheLibraryIsNoLibrary) {
  setenv("CUPTI_LIBRARY", ES_TESTS_DIR "/CMakeLists.txt", 1);
  expect_fallback("cupti.no_library", "CMakeLists.txt");
}

TEST(CuptiTracer, SaysThatThereIsNoDriver) {
  if (void* driver = dlopen("libcuda.so.1", RTLD_LAZY)) {
    dlclose(driver);
    GTEST_SKIP() << "this machine has a driver";
  }
  unsetenv("CUPTI_LIBRARY");
  expect_fallback("cupti.no_driver", "no NVIDIA driver");  // the toolkit's own library is found and asked
}

constexpr int kMultipleSubscribers = 39;

class CuptiTracerFake : public ::testing::Test {
 protected:
  void SetUp() override {
    setenv("CUPTI_LIBRARY", ES_FAKE_CUPTI, 1);
    library_ = dlopen(ES_FAKE_CUPTI, RTLD_NOW);
    ASSERT_NE(library_, nullptr) << dlerror();
    control<decltype(fake_cupti_reset)>("fake_cupti_reset")();
  }
  template <typename Function>
  Function* control(const char* name) const {
    return reinterpret_cast<Function*>(dlsym(library_, name));
  }
  void launch(const char* name, std::int64_t start_ns, std::int64_t end_ns) const {
    control<decltype(fake_cupti_launch)>("fake_cupti_launch")(name, static_cast<std::uint64_t>(start_ns),
                                                              static_cast<std::uint64_t>(end_ns));
  }
  void copy(std::int64_t bytes, std::int64_t start_ns, std::int64_t end_ns) const {
    control<decltype(fake_cupti_copy_to_device)>("fake_cupti_copy_to_device")(
        static_cast<std::uint64_t>(bytes), static_cast<std::uint64_t>(start_ns), static_cast<std::uint64_t>(end_ns));
  }
  static CuptiTracerOptions often() { return {.activity = {}, .period = std::chrono::milliseconds(1)}; }

  void* library_ = nullptr;
};

// Steps of two layers, each with a kernel and an expert copy, as the engine tells and as the device does them.
void run_steps(Recording& recording, int steps, const std::function<void(const LaunchTag&)>& issue) {
  Recorder& recorder = recording.recorder();
  for (int s = 0; s < steps; ++s) {
    for (std::uint16_t layer = 0; layer < 2; ++layer) {
      const auto step = static_cast<std::uint32_t>(s);
      for (const LaunchTag& tag :
           {LaunchTag{.step = step, .layer = layer, .kind = WorkKind::attention},
            LaunchTag{.step = step, .layer = layer, .expert = 5, .is_copy = true, .reason = CopyReason::demand}}) {
        recorder.on_launch_begin(tag);
        issue(tag);
        recorder.on_launch_end();
      }
    }
  }
}

TEST_F(CuptiTracerFake, JoinsEveryKernelAndCopyToItsStepLayerAndReason) {
  for (const bool calls_come_late : {false, true}) {
    control<decltype(fake_cupti_reset)>("fake_cupti_reset")();
    control<decltype(fake_cupti_hold_back_calls)>("fake_cupti_hold_back_calls")(calls_come_late);
    Recording recording;
    CuptiTracer tracer(recording.recorder(), often());
    ASSERT_TRUE(tracer.active());
    EXPECT_EQ(tracer.device_bytes(), 9'600'000);
    recording.start();
    TimeNs now = recording.started_ns() + 1'000;
    run_steps(recording, 500, [&](const LaunchTag& tag) {
      if (tag.is_copy) {
        copy(4096, now, now + 700);
        CopyRecord told;
        told.step = tag.step;
        told.layer = tag.layer;
        told.expert = tag.expert;
        told.bytes = 4096;
        told.start_ns = now - recording.origin_ns() - 100;
        told.end_ns = told.start_ns + 900;
        recording.recorder().on_event(told);
      } else {
        launch("_Z9attentionPf", now, now + 500);
      }
      now += 1'000;
      if (tag.step % 50 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    });
    launch("_Z7untoldv", now, now + 10);  // outside of every tag
    tracer.stop();
    const Trace& trace = recording.finish();
    const CuptiNumbers numbers = cupti_numbers(trace);
    EXPECT_TRUE(numbers.recorded);
    EXPECT_EQ(numbers.kernels, 1001u);
    EXPECT_EQ(numbers.joined_kernels, 1000u);
    EXPECT_EQ(numbers.copies, 1000u);
    EXPECT_EQ(numbers.joined_copies, 1000u);
    EXPECT_TRUE(numbers.bytes_are_comparable);
    EXPECT_EQ(numbers.expert_copy_bytes, 1000 * 4096);
    EXPECT_TRUE(numbers.bytes_are_equal());
    EXPECT_EQ(cupti_residual(trace).copies, 1000u);
    EXPECT_EQ(cupti_residual(trace).max_ns, 100);
    std::ranges::sort(recording.kernels, {}, &GpuKernelRecord::start_ns);
    EXPECT_EQ(recording.kernels.front().start_ns, recording.started_ns() + 1'000 - recording.origin_ns());
    EXPECT_EQ(unpack_tag(recording.kernels[3].tag), (LaunchTag{.step = 1, .layer = 1, .kind = WorkKind::attention}));
    EXPECT_EQ(recording.strings[recording.kernels.front().demangled_name], "attention(float*)");
    EXPECT_EQ(recording.strings[recording.kernels.front().short_name], "attention");
  }
}

TEST_F(CuptiTracerFake, TellsTheKernelsOfOneGraphApart) {
  Recording recording;
  CuptiTracer tracer(recording.recorder(), often());
  recording.start();
  Recorder& recorder = recording.recorder();
  std::vector<std::uint64_t> nodes;
  for (std::uint16_t layer = 0; layer < 3; ++layer) {
    recorder.on_launch_begin({.step = 0, .layer = layer, .kind = WorkKind::router});
    nodes.push_back(control<decltype(fake_cupti_capture_node)>("fake_cupti_capture_node")());
    recorder.on_launch_end();
  }
  for (const std::uint32_t step : {7u, 8u}) {
    recorder.on_launch_begin({.step = step, .kind = WorkKind::embed});
    control<decltype(fake_cupti_launch_graph)>("fake_cupti_launch_graph")(
        nodes.data(), 3, "_Z6routerv", static_cast<std::uint64_t>(recording.started_ns() + step * 1'000));
    recorder.on_launch_end();
  }
  tracer.stop();
  recording.finish();
  std::ranges::sort(recording.kernels, {}, &GpuKernelRecord::start_ns);
  ASSERT_EQ(recording.kernels.size(), 6u);
  for (std::size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(
        unpack_tag(recording.kernels[i].tag),
        (LaunchTag{.step = i < 3 ? 7u : 8u, .layer = static_cast<std::uint16_t>(i % 3), .kind = WorkKind::router}));
  }
}

TEST_F(CuptiTracerFake, SaysThatAnotherToolHoldsCupti) {
  control<decltype(fake_cupti_refuse_subscribers)>("fake_cupti_refuse_subscribers")(kMultipleSubscribers);
  expect_fallback("cupti.in_use", "another tool");
}

TEST_F(CuptiTracerFake, SaysThatAnotherRecordingOfThisProgramHoldsCupti) {
  Recording first;
  CuptiTracer tracer(first.recorder());
  ASSERT_TRUE(tracer.active());
  expect_fallback("cupti.in_use", "another recording of this program");
  EXPECT_TRUE(tracer.active());
}

TEST_F(CuptiTracerFake, MayRecordAgainAfterItWasHeldByAnother) {
  control<decltype(fake_cupti_refuse_subscribers)>("fake_cupti_refuse_subscribers")(kMultipleSubscribers);
  expect_fallback("cupti.in_use", "another tool");
  control<decltype(fake_cupti_refuse_subscribers)>("fake_cupti_refuse_subscribers")(0);
  Recording recording;
  EXPECT_TRUE(CuptiTracer(recording.recorder()).active());
}

TEST_F(CuptiTracerFake, SwitchesOnCallsThatIssueWorkAndNoOthers) {
  Recording recording;
  CuptiTracer tracer(recording.recorder());
  const auto on = control<decltype(fake_cupti_calls_switched_on)>("fake_cupti_calls_switched_on");
  EXPECT_EQ(on(), 4u);  // a launch, a copy and a graph's launch of the driver, a copy of the runtime
  tracer.stop();
  EXPECT_EQ(on(), 0u);
}

TEST_F(CuptiTracerFake, RegistersItsClockOnceInTheLifeOfTheProgram) {
  for (int i = 0; i < 3; ++i) {
    Recording recording;
    CuptiTracer tracer(recording.recorder());
    ASSERT_TRUE(tracer.active());
  }
  EXPECT_LE(control<decltype(fake_cupti_timestamp_registrations)>("fake_cupti_timestamp_registrations")(), 1u);
}

TEST_F(CuptiTracerFake, WarnsOfASecondRecordingInOneProgram) {
  for (int i = 0; i < 2; ++i) {
    Recording recording;
    CuptiTracer(recording.recorder()).stop();
    recording.start();
    const Trace& trace = recording.finish();
    EXPECT_TRUE(i == 0 || trace.health.contains("cupti.second_recording"));
  }
}

TEST_F(CuptiTracerFake, CountsWhatHasNoTimes) {
  Recording recording;
  CuptiTracer tracer(recording.recorder());
  recording.start();
  launch("_Z1kv", 0, 0);
  launch("_Z1kv", recording.started_ns() + 50, recording.started_ns() + 40);
  tracer.stop();
  const Trace& trace = recording.finish();
  EXPECT_EQ(trace.health.at(health_code::kCuptiNoTimes).count, 2u);
  EXPECT_EQ(trace.gpu_totals.kernels, 2u);
  EXPECT_EQ(trace.gpu_totals.kernel_ns, 0);
}

TEST_F(CuptiTracerFake, CountsWhatCuptiLostForWantOfBuffers) {
  Recording recording;
  CuptiTracer tracer(recording.recorder(), {.activity = {}, .period = std::chrono::hours(1)});
  recording.start();
  // More than all buffers hold, with nobody to empty them.
  constexpr int kLaunches = 1'500'000;
  for (int i = 0; i < kLaunches; ++i) launch("_Z1kv", recording.started_ns() + i, recording.started_ns() + i + 1);
  tracer.stop();
  const Trace& trace = recording.finish();
  ASSERT_TRUE(trace.health.contains(health_code::kCuptiDropped));
  EXPECT_GE(trace.health.at(health_code::kCuptiDropped).count + trace.gpu_totals.kernels, kLaunches);
  EXPECT_LT(trace.gpu_totals.kernels, kLaunches);
  EXPECT_FALSE(cupti_numbers(trace).bytes_are_comparable);
}

TEST_F(CuptiTracerFake, CountsTheDeviceMemoryOfItsBuffersAsTheProfilers) {
  std::int64_t peak_without = 0;
  {
    Recording recording;
    recording.start();
    const Trace& trace = recording.finish();
    EXPECT_EQ(trace.info.memory.profiler_bytes, 0);
    peak_without = trace.info.memory.gpu_peak_bytes;
  }
  Recording recording;
  CuptiTracer tracer(recording.recorder(), often());
  recording.start();
  tracer.stop();
  const Trace& trace = recording.finish();
  EXPECT_EQ(trace.info.memory.profiler_bytes, 9'600'000);
  EXPECT_EQ(trace.info.memory.gpu_peak_bytes, peak_without + 9'600'000);
}

// A clock is chosen once in a program's life, so this is one of its own.
void run_with_a_clock_of_its_own(const std::function<void(const char*, std::int64_t, std::int64_t)>& launch) {
  Recording recording;
  CuptiTracer tracer(recording.recorder(), {.activity = {}, .period = std::chrono::milliseconds(1)});
  recording.start();
  timespec t{};
  clock_gettime(CLOCK_REALTIME, &t);
  const std::int64_t wanted = monotonic_ns() - recording.origin_ns();
  const std::int64_t start = std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
  launch("_Z1kv", start, start + 1'000);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  tracer.stop();
  const Trace& trace = recording.finish();
  const bool good = recording.kernels.size() == 1 && std::abs(recording.kernels[0].start_ns - wanted) < 1'000'000 &&
                    recording.kernels[0].end_ns - recording.kernels[0].start_ns == 1'000 &&
                    trace.wall.at(cupti_fact::kClock) == "fitted";
  std::exit(good ? 0 : 1);
}

TEST_F(CuptiTracerFake, FitsTheClocksWhenCuptiDoesNotKeepOurs) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        control<decltype(fake_cupti_keep_time_badly)>("fake_cupti_keep_time_badly")(true);
        run_with_a_clock_of_its_own([&](const char* name, std::int64_t a, std::int64_t b) { launch(name, a, b); });
      },
      ::testing::ExitedWithCode(0), "");
}

#endif

}  // namespace
}  // namespace expertscope
