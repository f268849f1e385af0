#include "engine/model/thread_pool.h"

#include <immintrin.h>

#include "engine/assert.h"

namespace expertscope {

namespace {

// A ticket holds the number of the current loop, how many items it has, and the next item, in one word: who takes an
// item by compare-and-swap thereby proves that the loop it belongs to is still running.
constexpr int kItemBits = 20;
constexpr std::uint64_t kItemMask = (std::uint64_t{1} << kItemBits) - 1;
constexpr std::uint64_t loop_of(std::uint64_t ticket) {
  return ticket >> (2 * kItemBits);
}
constexpr std::uint64_t items_of(std::uint64_t ticket) {
  return (ticket >> kItemBits) & kItemMask;
}
constexpr std::uint64_t next_of(std::uint64_t ticket) {
  return ticket & kItemMask;
}
constexpr std::uint64_t make_ticket(std::uint64_t loop, std::uint64_t items) {
  return loop << (2 * kItemBits) | items << kItemBits;
}

constexpr int kCallerSpins = 2000;  // then the caller, who waits for a worker's last item, lets others run

}  // namespace

ThreadPool::ThreadPool(int threads) {
  ES_ASSERT(threads >= 1, "a pool has at least its caller");
  for (int thread = 1; thread < threads; ++thread) workers_.emplace_back([this, thread] { work(thread); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(mutex_);
    shared_.stop.store(true);
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run(int items, Call call, void* context) {
  ES_ASSERT(static_cast<std::uint64_t>(items) <= kItemMask, "too many items for one loop");
  // The previous loop is over, so nobody who reads these can still take an item under its ticket.
  shared_.call.store(call, std::memory_order_relaxed);
  shared_.context.store(context, std::memory_order_relaxed);
  shared_.done.store(0, std::memory_order_relaxed);
  const std::uint64_t loop = loop_of(shared_.ticket.load(std::memory_order_relaxed)) + 1;
  shared_.ticket.store(make_ticket(loop, static_cast<std::uint64_t>(items)));  // seq_cst: ordered before the next load
  if (shared_.sleepers.load() > 0) {
    std::lock_guard lock(mutex_);
    wake_.notify_all();
  }
  take_items(0);
  for (int spin = 0; shared_.done.load(std::memory_order_acquire) != static_cast<std::uint32_t>(items); ++spin) {
    if (spin < kCallerSpins)
      _mm_pause();
    else
      std::this_thread::yield();
  }
}

// Works on the current loop until its items are handed out; returns the ticket that showed it.
std::uint64_t ThreadPool::take_items(int thread) {
  std::uint64_t ticket = shared_.ticket.load(std::memory_order_acquire);
  while (next_of(ticket) < items_of(ticket)) {
    const Call call = shared_.call.load(std::memory_order_relaxed);
    void* const context = shared_.context.load(std::memory_order_relaxed);
    if (!shared_.ticket.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel,
                                              std::memory_order_acquire)) {
      continue;
    }
    call(context, static_cast<int>(next_of(ticket)), thread);
    shared_.done.fetch_add(1, std::memory_order_release);
    ticket = shared_.ticket.load(std::memory_order_acquire);
  }
  return ticket;
}

void ThreadPool::work(int thread) {
  std::uint64_t seen = 0;
  const auto news = [&] { return shared_.stop.load() || shared_.ticket.load() != seen; };
  while (true) {
    const auto begin = std::chrono::steady_clock::now();
    while (!news() && std::chrono::steady_clock::now() - begin < awake_.load(std::memory_order_relaxed)) {
      for (int pause = 0; pause < 16 && !news(); ++pause) _mm_pause();
    }
    if (!news()) {
      std::unique_lock lock(mutex_);
      shared_.sleepers.fetch_add(1);
      wake_.wait(lock, news);
      shared_.sleepers.fetch_sub(1);
    }
    if (shared_.stop.load()) return;
    seen = take_items(thread);
  }
}

}  // namespace expertscope
