// A bounded queue between one producer and one consumer thread that neither locks nor allocates after construction.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>

namespace expertscope {

template <typename T>
class Ring {
  static_assert(std::is_trivially_copyable_v<T>, "records are copied through the ring as they are");

 public:
  explicit Ring(std::size_t capacity) : mask_(std::bit_ceil(capacity) - 1), slots_(new T[mask_ + 1]) {}

  std::size_t capacity() const { return mask_ + 1; }

  // Producer. False when full.
  bool try_push(const T& value) {
    const std::uint64_t head = head_.load(std::memory_order_relaxed);
    if (head - tail_seen_ > mask_) {
      tail_seen_ = tail_.load(std::memory_order_acquire);
      if (head - tail_seen_ > mask_) return false;
    }
    slots_[head & mask_] = value;
    head_.store(head + 1, std::memory_order_release);
    return true;
  }

  // Producer: entries in the ring, counted from the consumer's position when it was last looked at; never too few.
  std::size_t filled() const { return static_cast<std::size_t>(head_.load(std::memory_order_relaxed) - tail_seen_); }
  // Producer: looks at the consumer's position again.
  void refresh() { tail_seen_ = tail_.load(std::memory_order_acquire); }

  // Any thread: number of entries ever pushed, and ever consumed.
  std::uint64_t pushed() const { return head_.load(std::memory_order_acquire); }
  std::uint64_t consumed() const { return tail_.load(std::memory_order_acquire); }

  // Consumer: takes the entries up to number `end` (at most pushed()), in order.
  template <typename Take>
  void consume_until(std::uint64_t end, Take&& take) {
    std::uint64_t tail = tail_.load(std::memory_order_relaxed);
    while (tail != end) {
      // Given back in portions, so that a waiting producer goes on while the rest is still being copied.
      const std::uint64_t portion_end = end - tail > kPortion ? tail + kPortion : end;
      for (; tail != portion_end; ++tail) take(static_cast<const T&>(slots_[tail & mask_]));
      tail_.store(tail, std::memory_order_release);
    }
  }

 private:
  static constexpr std::uint64_t kPortion = 1024;
  static constexpr std::size_t kCacheLine = 64;  // apart, so that the two threads do not fight over one line

  const std::uint64_t mask_;
  const std::unique_ptr<T[]> slots_;
  alignas(kCacheLine) std::atomic<std::uint64_t> head_{0};
  std::uint64_t tail_seen_ = 0;  // producer's copy of tail_
  alignas(kCacheLine) std::atomic<std::uint64_t> tail_{0};
};

}  // namespace expertscope
