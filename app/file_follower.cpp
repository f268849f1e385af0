#include "app/file_follower.h"

#include <chrono>
#include <exception>

namespace expertscope {
namespace {

constexpr std::chrono::milliseconds kPeriod{250};

}  // namespace

FileFollower::FileFollower(const std::string& path) : reader_(path), thread_([this] { run(); }) {}

FileFollower::~FileFollower() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

bool FileFollower::loaded() const {
  const std::lock_guard lock(mutex_);
  return loaded_;
}

std::string FileFollower::error() const {
  const std::lock_guard lock(mutex_);
  return error_;
}

bool FileFollower::wait() {
  std::unique_lock lock(mutex_);
  return !changed_.wait_for(lock, kPeriod, [this] { return stop_; });
}

void FileFollower::run() {
  try {
    Batch batch = reader_.read_all();
    bool ended = batch.ended;
    batches_->push(std::make_shared<const Batch>(std::move(batch)));
    {
      const std::lock_guard lock(mutex_);
      loaded_ = true;
    }
    while (!ended && wait()) {
      batch = reader_.poll();
      ended = batch.ended;
      if (!batch.empty() || ended) batches_->push(std::make_shared<const Batch>(std::move(batch)));
    }
  } catch (const std::exception& error) {
    const std::lock_guard lock(mutex_);
    error_ = error.what();
    loaded_ = true;
  }
  batches_->close();
}

}  // namespace expertscope
