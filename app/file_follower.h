// A saved session, or one that another process is still writing, as batches: read on a thread of its own, so that the window
// waits neither for the disk nor for the writer.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "profiler/batch_queue.h"
#include "storage/reader.h"

namespace expertscope {

class FileFollower {
 public:
  // SessionRefused when the file cannot be opened as a session. Starts the thread: everything that is committed, then four
  // looks a second for what came since, until the run has ended.
  explicit FileFollower(const std::string& path);
  ~FileFollower();
  FileFollower(const FileFollower&) = delete;
  FileFollower& operator=(const FileFollower&) = delete;

  // Any thread.
  std::shared_ptr<BatchQueue> batches() const { return batches_; }
  bool loaded() const;        // the first reading is in the queue
  std::string error() const;  // why reading stopped, "" when nothing went wrong

 private:
  void run();
  bool wait();  // false when the follower is to end

  SessionReader reader_;
  std::shared_ptr<BatchQueue> batches_ = std::make_shared<BatchQueue>();
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool stop_ = false, loaded_ = false;
  std::string error_;
  std::thread thread_;
};

}  // namespace expertscope
