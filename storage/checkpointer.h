// Moves a growing session's write-ahead log into its file on a thread of its own: syncing to a slow disk must not delay
// the writer's commits, or a killed process would lose more than the last moments. Internal to storage/.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>

#include "storage/sqlite.h"

namespace expertscope {

class Checkpointer {
 public:
  // `writer` has a session at `path` open in WAL mode, and outlives this object. From now on it does not make
  // checkpoints of its own accord.
  Checkpointer(const std::string& path, sqlite::Database& writer);
  ~Checkpointer();
  Checkpointer(const Checkpointer&) = delete;
  Checkpointer& operator=(const Checkpointer&) = delete;

 private:
  static int after_commit(void* self, sqlite3* writer, const char* database, int log_pages);  // on the writer's thread
  void run();

  sqlite::Database& writer_;
  sqlite::Database own_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool wanted_ = false, stop_ = false;
  std::atomic<bool> working_{false};    // a checkpoint is being made in the background
  std::atomic<bool> caught_up_{false};  // one was made since the writer last looked
  int last_log_pages_ = 0;              // at the last checkpoint
  std::thread thread_;
};

}  // namespace expertscope
