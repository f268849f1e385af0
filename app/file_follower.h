// A saved session, or one that another process is still writing: read on a thread of its own, so that the window waits
// neither for the disk nor for the writer.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "profiler/batch_queue.h"
#include "profiler/trace.h"
#include "storage/reader.h"

namespace expertscope {

class FileFollower {
 public:
  // SessionRefused when the file cannot be opened as a session. Starts the thread: it makes a trace of everything that
  // is committed, then looks four times a second for what came since, until the run has ended.
  explicit FileFollower(const std::string& path);
  ~FileFollower();
  FileFollower(const FileFollower&) = delete;
  FileFollower& operator=(const FileFollower&) = delete;

  // Any thread.
  std::unique_ptr<Trace> take_trace();                              // once it is made; nullptr before and after
  std::shared_ptr<BatchQueue> batches() const { return batches_; }  // what came after it
  std::string error() const;                                        // why reading stopped, "" when nothing went wrong

 private:
  void run();
  bool wait();  // false when the follower is to end

  SessionReader reader_;
  std::shared_ptr<BatchQueue> batches_ = std::make_shared<BatchQueue>();
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool stop_ = false;
  std::unique_ptr<Trace> trace_;
  std::string error_;
  std::thread thread_;
};

}  // namespace expertscope
