#include "profiler/batch_queue.h"

#include <utility>

namespace expertscope {

void BatchQueue::push(BatchPtr batch) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return closed_ || capacity_ == 0 || batches_.size() < capacity_; });
  if (closed_) return;
  batches_.push_back(std::move(batch));
  changed_.notify_all();
}

void BatchQueue::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  changed_.notify_all();
}

std::vector<BatchPtr> BatchQueue::take() {
  const std::lock_guard lock(mutex_);
  return take_locked();
}

std::vector<BatchPtr> BatchQueue::wait_and_take(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, timeout, [&] { return closed_ || !batches_.empty(); });
  return take_locked();
}

bool BatchQueue::finished() const {
  const std::lock_guard lock(mutex_);
  return closed_ && batches_.empty();
}

std::vector<BatchPtr> BatchQueue::take_locked() {
  std::vector<BatchPtr> taken(std::make_move_iterator(batches_.begin()), std::make_move_iterator(batches_.end()));
  batches_.clear();
  changed_.notify_all();
  return taken;
}

}  // namespace expertscope
