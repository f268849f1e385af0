#include "profiler/recorder.h"

#include <thread>

#include <gtest/gtest.h>

#include "profiler/health.h"
#include "tests/profiler/record_equality.h"
#include "tests/profiler/sample_run.h"

namespace expertscope {
namespace {

using test::expect_equal;

Trace drain(BatchQueue& queue) {
  Trace trace;
  for (const BatchPtr& batch : queue.take()) trace.append(*batch);
  return trace;
}

TEST(Recorder, HandsOnEverythingTheEngineSaidInItsOrder) {
  Recorder recorder;
  Collector collector(recorder);
  const auto queue = std::make_shared<BatchQueue>();
  collector.subscribe(queue);
  test::play_sample(recorder);
  collector.close();
  expect_equal(drain(*queue), test::sample_trace());
}

TEST(Recorder, LosesNothingWhenItsRingsAreTiny) {
  Recorder recorder({WhenFull::push_back, 4, 2});
  Collector collector(recorder, std::chrono::milliseconds(1));
  const auto queue = std::make_shared<BatchQueue>();
  collector.subscribe(queue);
  test::play_sample(recorder);
  collector.close();
  expect_equal(drain(*queue), test::sample_trace());
  EXPECT_EQ(recorder.dropped(), 0u);
}

TEST(Recorder, GivesEverySubscriberTheSameBatches) {
  Recorder recorder;
  Collector collector(recorder, std::chrono::milliseconds(1));
  const auto writer = std::make_shared<BatchQueue>(), window = std::make_shared<BatchQueue>();
  collector.subscribe(writer);
  collector.subscribe(window);
  test::play_sample(recorder, 200);
  collector.close();
  EXPECT_EQ(writer->take(), window->take());
}

TEST(Recorder, FlushDeliversWhatWasEmittedBefore) {
  Recorder recorder;
  Collector collector(recorder, std::chrono::hours(1));  // never by itself
  const auto queue = std::make_shared<BatchQueue>();
  collector.subscribe(queue);
  test::SampleRun run(recorder);
  run.start();
  run.prompt(3);
  collector.flush();
  const Trace trace = drain(*queue);
  EXPECT_EQ(trace.steps.size(), 3u);
  EXPECT_FALSE(trace.ended);
}

TEST(Recorder, NeverShowsAnEventBeforeTheRareRecordsThatCameBeforeIt) {
  Recorder recorder({WhenFull::push_back, 64, 64});
  Collector collector(recorder, std::chrono::milliseconds(1));
  const auto queue = std::make_shared<BatchQueue>();
  collector.subscribe(queue);
  std::thread engine([&] {
    for (std::uint32_t i = 0; i < 20'000; ++i) {
      if (i % 10 == 0) {
        EpochRecord epoch;
        epoch.epoch = i / 10;
        recorder.on_epoch(epoch);
      }
      StepRecord step;
      step.step = i;
      step.epoch = i / 10;
      recorder.on_event(step);
    }
    collector.close();
  });
  std::size_t epochs = 0, steps = 0;
  while (!queue->finished()) {
    for (const BatchPtr& batch : queue->wait_and_take(std::chrono::milliseconds(100))) {
      epochs += batch->epochs.size();
      for (const StepRecord& step : batch->steps) ASSERT_LT(step.epoch, epochs);
      steps += batch->steps.size();
    }
  }
  engine.join();
  EXPECT_EQ(steps, 20'000u);
  EXPECT_EQ(epochs, 2'000u);
}

TEST(Recorder, DropsAndCountsWhereTheEngineMustNotWait) {
  Recorder recorder({WhenFull::drop, 8, 8});
  for (int i = 0; i < 20; ++i) recorder.on_event(WorkRecord{});
  EXPECT_EQ(recorder.dropped(), 12u);
  const auto queue = std::make_shared<BatchQueue>();
  Collector collector(recorder, std::chrono::milliseconds(20), {queue});
  collector.close();
  const Trace trace = drain(*queue);
  EXPECT_EQ(trace.works.size(), 8u);
  ASSERT_TRUE(trace.health.contains(health_code::kEventsDropped));
  EXPECT_EQ(trace.health.at(health_code::kEventsDropped).count, 12u);
  EXPECT_EQ(trace.health.at(health_code::kEventsDropped).severity, Severity::loss);
}

TEST(Recorder, MarksARunThatFailedAsNotEnded) {
  Recorder recorder;
  const auto queue = std::make_shared<BatchQueue>();
  {
    Collector collector(recorder);
    collector.subscribe(queue);
    recorder.on_event(WorkRecord{});
  }
  const Trace trace = drain(*queue);
  EXPECT_EQ(trace.works.size(), 1u);
  EXPECT_FALSE(trace.ended);
  EXPECT_TRUE(queue->finished());
}

TEST(Recorder, KeepsFactsThatMayDifferBetweenRunsApart) {
  Recorder recorder;
  Collector collector(recorder);
  const auto queue = std::make_shared<BatchQueue>();
  collector.subscribe(queue);
  recorder.set_wall("started_at", "2026-11-22T10:00:00");
  collector.close();
  EXPECT_EQ(drain(*queue).wall.at("started_at"), "2026-11-22T10:00:00");
}

TEST(BatchQueue, HoldsUpTheCollectorWhenTheWriterIsTooSlow) {
  BatchQueue queue(1);
  queue.push(std::make_shared<Batch>());
  std::atomic<bool> through = false;
  std::thread collector([&] {
    queue.push(std::make_shared<Batch>());
    through = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_FALSE(through);
  EXPECT_EQ(queue.take().size(), 1u);
  collector.join();
  EXPECT_TRUE(through);
}

TEST(BatchQueue, LetsTheCollectorGoOnOnceNobodyWantsBatches) {
  BatchQueue queue(1);
  queue.push(std::make_shared<Batch>());
  std::thread subscriber([&] { queue.close(); });
  queue.push(std::make_shared<Batch>());
  subscriber.join();
}

}  // namespace
}  // namespace expertscope
