// Hands finished batches from the collector to one subscriber (the session writer, the window) without copying them.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "profiler/batch.h"

namespace expertscope {

using BatchPtr = std::shared_ptr<const Batch>;

// All members may be called from any thread.
class BatchQueue {
 public:
  // A bounded queue makes the collector wait, and through the full rings the engine: for a writer that must not fall
  // behind. 0: unbounded, for a window, which must never hold up the engine.
  explicit BatchQueue(std::size_t capacity = 0) : capacity_(capacity) {}

  void push(BatchPtr);           // waits while full; drops the batch when the queue is closed
  void close();                  // no more batches will come, or nobody wants them any more
  std::vector<BatchPtr> take();  // what is there, at once
  std::vector<BatchPtr> wait_and_take(
      std::chrono::milliseconds timeout);  // as soon as something is there, it is closed, or time is up
  bool finished() const;                   // closed and empty

 private:
  std::vector<BatchPtr> take_locked();

  const std::size_t capacity_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<BatchPtr> batches_;
  bool closed_ = false;
};

}  // namespace expertscope
