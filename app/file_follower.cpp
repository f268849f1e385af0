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

std::unique_ptr<Trace> FileFollower::take_trace() {
  const std::lock_guard lock(mutex_);
  return std::move(trace_);
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
    auto trace = std::make_unique<Trace>();
    trace->append(reader_.read_all());
    bool ended = trace->ended;
    {
      const std::lock_guard lock(mutex_);
      trace_ = std::move(trace);
    }
    while (!ended && wait()) {
      Batch batch = reader_.poll();
      ended = batch.ended;
      if (!batch.empty() || ended) batches_->push(std::make_shared<const Batch>(std::move(batch)));
    }
  } catch (const std::exception& error) {
    const std::lock_guard lock(mutex_);
    error_ = error.what();
  }
  batches_->close();
}

}  // namespace expertscope
