#include "engine/model/thread_pool.h"

#include <algorithm>
#include <chrono>
#include <ctime>

#include <gtest/gtest.h>

namespace expertscope {
namespace {

TEST(ThreadPool, CallsEveryItemOnceWithOneCallerPerThreadNumber) {
  for (const int threads : {1, 2, 4}) {
    ThreadPool pool(threads);
    for (const int items : {0, 1, 2, 7, 1000}) {
      std::vector<int> calls(static_cast<std::size_t>(items));
      std::vector<std::atomic<int>> active(static_cast<std::size_t>(threads));
      std::atomic<bool> shared{false};
      pool.parallel_for(items, [&](int item, int thread) {
        if (active[static_cast<std::size_t>(thread)].fetch_add(1) != 0) shared = true;
        ++calls[static_cast<std::size_t>(item)];
        active[static_cast<std::size_t>(thread)].fetch_sub(1);
      });
      EXPECT_EQ(calls, std::vector<int>(static_cast<std::size_t>(items), 1));
      EXPECT_FALSE(shared);
    }
  }
}

TEST(ThreadPool, KeepsLoopsApartOverManyShortOnes) {
  ThreadPool pool(3);
  std::vector<int> values(64);
  for (int loop = 0; loop < 20'000; ++loop) {
    const int items = 1 + loop % 64;
    pool.parallel_for(items, [&](int item, int) { values[static_cast<std::size_t>(item)] = loop; });
    const int wrong =
        static_cast<int>(std::count_if(values.begin(), values.begin() + items, [&](int v) { return v != loop; }));
    ASSERT_EQ(wrong, 0) << "loop " << loop;
  }
}

TEST(ThreadPool, WakesWorkersThatSleep) {
  ThreadPool pool(2);
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    std::atomic<int> sum{0};
    pool.parallel_for(10, [&](int item, int) { sum += item; });
    EXPECT_EQ(sum, 45);
  }
}

double processor_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

TEST(ThreadPool, UsesNoProcessorTimeWhenIdle) {
  ThreadPool pool(4);
  pool.parallel_for(8, [](int, int) {});
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const double before = processor_seconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_LT(processor_seconds() - before, 0.05);
}

}  // namespace
}  // namespace expertscope
