// A small pool for the many short parallel loops of a forward pass. Workers look for the next loop for a while and then
// sleep. Loops may be started from one thread at a time; that thread works along.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace expertscope {

class ThreadPool {
 public:
  explicit ThreadPool(int threads);  // in all, the caller included; at least 1
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // How long workers look before they sleep, 50 us unless told. Who has a loop every few hundred microseconds and cores
  // to spare says a longer time, so that they need not be woken for each. Any thread.
  void stay_awake(std::chrono::microseconds time) { awake_.store(time); }

  // Calls body(item, thread) for every item in [0, items), in any order and on any thread; `thread` in [0, threads())
  // is held by one call at a time. Returns when all calls have returned. The body must not throw and must not start
  // loops.
  template <typename Body>
  void parallel_for(int items, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    if (items <= 1 || workers_.empty()) {
      for (int item = 0; item < items; ++item) body(item, 0);
      return;
    }
    run(
        items, [](void* context, int item, int thread) { (*static_cast<Plain*>(context))(item, thread); },
        const_cast<void*>(static_cast<const void*>(std::addressof(body))));
  }

 private:
  using Call = void (*)(void* context, int item, int thread);
  struct alignas(64) Shared {
    std::atomic<std::uint64_t> ticket{0};
    std::atomic<Call> call{nullptr};
    std::atomic<void*> context{nullptr};
    alignas(64) std::atomic<std::uint32_t> done{0};
    alignas(64) std::atomic<int> sleepers{0};
    std::atomic<bool> stop{false};
  };

  void run(int items, Call call, void* context);
  void work(int thread);
  std::uint64_t take_items(int thread);

  Shared shared_;
  std::atomic<std::chrono::microseconds> awake_{std::chrono::microseconds(50)};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::thread> workers_;
};

}  // namespace expertscope
