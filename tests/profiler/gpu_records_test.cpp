// Records of the device on their way into batches.
#include <gtest/gtest.h>

#include "profiler/cupti_records.h"
#include "profiler/health.h"
#include "tests/profiler/gpu_recording.h"

namespace expertscope {
namespace {

TEST(GpuRecords, AreMovedToTheSessionsClockAndLeaveOutWhatCameBefore) {
  GpuRecords records;
  records.kernels.resize(3);
  records.kernels[0].start_ns = 900;  // while the model was loaded
  records.kernels[0].end_ns = 1'100;
  records.kernels[1].start_ns = 1'500;
  records.kernels[1].end_ns = 1'600;
  EXPECT_EQ(move_to_session_clock(records, 500, 1'000), 1u);
  ASSERT_EQ(records.kernels.size(), 2u);
  EXPECT_EQ(records.kernels[0].start_ns, 1'000);
  EXPECT_EQ(records.kernels[0].end_ns, 1'100);
  EXPECT_EQ(records.kernels[1].start_ns, 0);  // it never had a time
}

TEST(Recorder, HoldsRecordsOfTheDeviceUntilItKnowsTheSessionsClock) {
  Recorder recorder;
  const auto queue = std::make_shared<BatchQueue>();
  Collector collector(recorder, std::chrono::milliseconds(1), {queue});
  GpuRecords records;
  records.kernels.resize(2);
  const TimeNs now = test::monotonic_ns();
  records.kernels[0].start_ns = now - 100;  // while the model was loaded, although the clock ran already
  records.kernels[0].end_ns = now;
  records.kernels[1].start_ns = now + 1'000'000'000;
  records.kernels[1].end_ns = now + 1'000'000'100;
  recorder.on_gpu_records(std::move(records));
  collector.flush();
  EXPECT_TRUE(queue->take().empty());
  RunInfo info = test::SampleRun::info();
  info.clock_origin_ns = now - 1'000;
  recorder.on_start(info);
  collector.close();
  GpuTotals totals;
  std::vector<GpuKernelRecord> kernels;
  std::string early;
  for (const BatchPtr& batch : queue->take()) {
    totals += batch->gpu_totals;
    kernels.insert(kernels.end(), batch->gpu.kernels.begin(), batch->gpu.kernels.end());
    if (const auto fact = batch->wall.find("cupti_records_before_start"); fact != batch->wall.end())
      early = fact->second;
  }
  ASSERT_EQ(kernels.size(), 1u);
  EXPECT_EQ(kernels[0].start_ns, 1'000'001'000);
  EXPECT_EQ(totals.kernels, 1u);
  EXPECT_EQ(early, "1");
}

TEST(Recorder, CountsRecordsOfTheDeviceThatItHasNoRoomFor) {
  RecorderOptions options;
  options.gpu_capacity = 10;
  Recorder recorder(options);
  const auto queue = std::make_shared<BatchQueue>();
  for (int i = 0; i < 3; ++i) {
    GpuRecords records;
    records.kernels.resize(4);
    records.strings = {{static_cast<std::uint32_t>(i), "name"}};
    recorder.on_gpu_records(std::move(records));
  }
  recorder.on_start(test::SampleRun::info());
  Collector collector(recorder, std::chrono::milliseconds(1), {queue});
  collector.close();
  Trace trace;
  std::size_t names = 0;
  for (const BatchPtr& batch : queue->take()) {
    trace.append(*batch);
    names += batch->gpu.strings.size();
  }
  EXPECT_EQ(trace.gpu_totals.kernels, 8u);
  EXPECT_EQ(names, 3u);
  EXPECT_EQ(trace.health.at(health_code::kCuptiDropped).count, 4u);
}

class CountingListener : public LaunchListener {
 public:
  void begin(const LaunchTag& tag) override { tags.push_back(tag); }
  void end() override { ++ended; }
  std::vector<LaunchTag> tags;
  int ended = 0;
};

TEST(Recorder, TellsALaunchListenerOfLaunchesWhenThereIsOne) {
  Recorder recorder;
  CountingListener listener;
  const LaunchTag tag{.step = 1, .layer = 2, .kind = WorkKind::router};
  recorder.on_launch_begin(tag);
  recorder.on_launch_end();
  recorder.set_launch_listener(&listener);
  recorder.on_launch_begin(tag);
  recorder.on_launch_end();
  recorder.set_launch_listener(nullptr);
  recorder.on_launch_begin(tag);
  recorder.on_launch_end();
  EXPECT_EQ(listener.tags, std::vector<LaunchTag>{tag});
  EXPECT_EQ(listener.ended, 1);
}

}  // namespace
}  // namespace expertscope
