#include "storage/checkpointer.h"

namespace expertscope {
namespace {

// Pages of 4 KiB: every 8 MiB a checkpoint in the background. While the writer goes on, it never catches up with the
// last commits; at 32 MiB the writer does that little rest itself, so that its next commit begins the log anew.
constexpr int kPagesBetweenCheckpoints = 2048, kPagesUntilRestart = 8192;

// A failure leaves the log as it is: nothing is lost, readers use it, and the next commit tells when the disk is full.
void checkpoint(sqlite3* db) {
  sqlite3_wal_checkpoint_v2(db, nullptr, SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr);
}

}  // namespace

Checkpointer::Checkpointer(const std::string& path, sqlite::Database& writer)
    : writer_(writer), own_(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX), thread_([this] { run(); }) {
  sqlite3_wal_hook(writer_.handle(), &Checkpointer::after_commit, this);
}

Checkpointer::~Checkpointer() {
  sqlite3_wal_hook(writer_.handle(), nullptr, nullptr);
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

int Checkpointer::after_commit(void* self, sqlite3* writer, const char*, int log_pages) {
  auto& me = *static_cast<Checkpointer*>(self);
  if (me.working_) return SQLITE_OK;
  if (log_pages < me.last_log_pages_) me.last_log_pages_ = 0;  // it began anew
  if (me.caught_up_.exchange(false) && log_pages >= kPagesUntilRestart) checkpoint(writer);
  if (log_pages - me.last_log_pages_ < kPagesBetweenCheckpoints) return SQLITE_OK;
  me.last_log_pages_ = log_pages;
  me.working_ = true;
  {
    const std::lock_guard lock(me.mutex_);
    me.wanted_ = true;
  }
  me.wake_.notify_all();
  return SQLITE_OK;
}

void Checkpointer::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [&] { return wanted_ || stop_; });
    if (stop_) return;
    wanted_ = false;
    lock.unlock();
    checkpoint(own_.handle());
    caught_up_ = true;
    working_ = false;
    lock.lock();
  }
}

}  // namespace expertscope
