// Keeps a session as one SQLite file while it runs: own thread, WAL, one transaction about every 50 ms, one file at
// close.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "profiler/batch_queue.h"

namespace expertscope {

struct WriterOptions {
  // Most pages that the file may have, 0 = no limit: stands in for a full disk.
  int max_pages = 0;
};

class SessionWriter {
 public:
  // Creates the file and starts the thread. InputError when the folder cannot be written, or when a file is there that
  // is neither empty nor a session (a session is overwritten).
  explicit SessionWriter(std::string path, WriterOptions = {});
  ~SessionWriter();
  SessionWriter(const SessionWriter&) = delete;
  SessionWriter& operator=(const SessionWriter&) = delete;

  // To subscribe to a collector. Bounded: a disk that is too slow holds up an emulated run instead of losing its
  // records.
  std::shared_ptr<BatchQueue> queue() const;

  // Any thread. Set once writing has failed (full disk, input/output error): nothing more is stored, what was committed
  // stays readable, and the run goes on.
  std::optional<std::string> error() const;

  // Waits until the queue is closed and everything is in the file, then leaves one single file. Call after
  // Collector::close(). Returns error().
  std::optional<std::string> close();

  const std::string& path() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace expertscope
