#include "storage/writer.h"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <mutex>
#include <thread>

#include <fmt/format.h>

#include "engine/error.h"
#include "storage/checkpointer.h"
#include "storage/schema.h"
#include "storage/session_header.h"
#include "storage/session_open.h"
#include "storage/session_tables.h"
#include "storage/sqlite.h"

namespace expertscope {
namespace {

// The collector makes a batch every 20 ms. Few may wait, so that a killed process loses no more than 100 ms.
constexpr std::size_t kWaitingBatches = 3;

// A damaged session is nobody's.
bool is_in_use(const std::string& path) {
  try {
    claim_file(path);
    return false;
  } catch (const sqlite::Error& error) {
    return error.code() == SQLITE_BUSY;
  }
}

void make_room(const std::string& path) {
  namespace fs = std::filesystem;
  const fs::path folder = fs::path(path).has_parent_path() ? fs::path(path).parent_path() : fs::path(".");
  std::error_code error;
  if (!fs::is_directory(folder, error)) {
    throw InputError(fmt::format("cannot write {}: there is no folder {}; make it first", path, folder.string()));
  }
  const SessionHeader header = read_session_header(path);
  using Kind = SessionHeader::Kind;
  if (header.kind == Kind::unreadable) throw InputError(fmt::format("cannot write {}: {}", path, header.error));
  if (header.kind == Kind::other) {
    throw InputError(fmt::format("will not overwrite {}: it is not a session; choose another name", path));
  }
  if (header.kind == Kind::session && is_in_use(path)) {
    throw InputError(
        fmt::format("will not overwrite {}: it is open elsewhere, perhaps being recorded; close it there or "
                    "choose another name",
                    path));
  }
  // A write-ahead log left beside a removed file would be taken for the new one's.
  for (const char* suffix : {"", "-wal", "-shm", "-journal"}) {
    fs::remove(path + suffix, error);
    if (error) throw InputError(fmt::format("cannot write {}: {}", path, error.message()));
  }
}

sqlite::Database create(const std::string& path, const WriterOptions& options) {
  make_room(path);
  try {
    sqlite::Database db(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX);
    sqlite3_busy_timeout(db.handle(), 5000);
    // Identity and tables first, in one transaction: whoever finds the file finds a whole, empty session.
    db.exec("BEGIN IMMEDIATE");
    db.exec(fmt::format("PRAGMA application_id = {}", kApplicationId));
    db.exec(fmt::format("PRAGMA user_version = {}", kSchemaVersion));
    db.exec(std::string(schema_sql()));
    db.exec("COMMIT");
    db.exec("PRAGMA journal_mode = WAL");
    db.exec("PRAGMA synchronous = NORMAL");
    db.integer("SELECT count(*) FROM sqlite_schema");  // the first read takes the lock that says: in use
    if (options.max_pages > 0) db.exec(fmt::format("PRAGMA max_page_count = {}", options.max_pages));
    return db;
  } catch (const sqlite::Error& error) {
    throw InputError(fmt::format("cannot write {}: {}; choose a folder that can be written to", path, error.what()));
  }
}

}  // namespace

struct SessionWriter::State {
  State(std::string file, const WriterOptions& options)
      : path(std::move(file)),
        db(create(path, options)),
        queue(std::make_shared<BatchQueue>(kWaitingBatches)),
        thread([this] { run(); }) {}

  void run();
  void store(const std::vector<BatchPtr>&, SessionTables&);
  void finish();
  void fail(const std::string& what);
  bool failed() {
    const std::lock_guard lock(mutex);
    return error.has_value();
  }

  const std::string path;
  sqlite::Database db;
  const std::shared_ptr<BatchQueue> queue;
  std::mutex mutex;
  std::optional<std::string> error;
  std::thread thread;
};

void SessionWriter::State::fail(const std::string& what) {
  const std::lock_guard lock(mutex);
  if (!error) error = fmt::format("stopped storing {}: {}", path, what);
}

void SessionWriter::State::run() {
  try {
    SessionTables tables(db);
    const Checkpointer checkpointer(path, db);
    while (!queue->finished()) {
      const auto batches = queue->wait_and_take(std::chrono::milliseconds(100));
      // After a failure batches are taken and let go, so that nobody waits for a disk that is gone.
      if (!batches.empty() && !failed()) store(batches, tables);
    }
  } catch (const std::exception& problem) {
    fail(problem.what());
    queue->close();
  }
}

void SessionWriter::State::store(const std::vector<BatchPtr>& batches, SessionTables& tables) {
  try {
    db.exec("BEGIN IMMEDIATE");
    for (const BatchPtr& batch : batches) tables.insert(*batch);
    db.exec("COMMIT");
  } catch (const sqlite::Error& problem) {
    sqlite3_exec(db.handle(), "ROLLBACK", nullptr, nullptr, nullptr);  // SQLite may have rolled back by itself
    fail(problem.what());
  }
}

// One file, readable from a medium that cannot be written to. Where a reader holds the session open, the log stays
// until the last reader leaves; where the disk is full, it stays as well, and readers use it.
void SessionWriter::State::finish() {
  sqlite3_exec(db.handle(), "PRAGMA wal_checkpoint(TRUNCATE)", nullptr, nullptr, nullptr);
  sqlite3_busy_timeout(db.handle(), 0);
  sqlite3_exec(db.handle(), "PRAGMA journal_mode = DELETE", nullptr, nullptr, nullptr);
  db = sqlite::Database();
}

SessionWriter::SessionWriter(std::string path, WriterOptions options)
    : state_(std::make_unique<State>(std::move(path), options)) {}

SessionWriter::~SessionWriter() {
  state_->queue->close();
  close();
}

std::shared_ptr<BatchQueue> SessionWriter::queue() const {
  return state_->queue;
}
const std::string& SessionWriter::path() const {
  return state_->path;
}

std::optional<std::string> SessionWriter::error() const {
  const std::lock_guard lock(state_->mutex);
  return state_->error;
}

std::optional<std::string> SessionWriter::close() {
  if (state_->thread.joinable()) {
    state_->thread.join();
    state_->finish();
  }
  return error();
}

}  // namespace expertscope
