#include "storage/sqlite.h"

namespace expertscope::sqlite {

Database::Database(const std::string& path, int flags) {
  const int code = sqlite3_open_v2(path.c_str(), &handle_, flags, nullptr);
  if (code == SQLITE_OK) return;
  const std::string message = handle_ ? sqlite3_errmsg(handle_) : sqlite3_errstr(code);
  sqlite3_close_v2(std::exchange(handle_, nullptr));
  throw Error(code & 0xff, message);
}

void Database::fail(int code) const {
  throw Error(code & 0xff, sqlite3_errmsg(handle_));
}

void Database::exec(const char* sql) {
  const int code = sqlite3_exec(handle_, sql, nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) fail(code);
}

std::string Database::text(const std::string& sql) {
  Statement statement(*this, sql);
  return statement.step() ? std::string(statement.bytes(0)) : std::string();
}

std::int64_t Database::integer(const std::string& sql) {
  Statement statement(*this, sql);
  return statement.step() ? statement.integer(0) : 0;
}

Statement::Statement(Database& database, std::string_view sql) : database_(&database) {
  check(sqlite3_prepare_v3(database.handle(), sql.data(), static_cast<int>(sql.size()), SQLITE_PREPARE_PERSISTENT,
                           &handle_, nullptr));
}

Statement& Statement::check(int code) {
  if (code != SQLITE_OK) database_->fail(code);
  return *this;
}

// An empty view may point nowhere, which SQLite would take for NULL.
Statement& Statement::bind(int index, std::string_view text) {
  return check(
      sqlite3_bind_text64(handle_, index, text.empty() ? "" : text.data(), text.size(), SQLITE_TRANSIENT, SQLITE_UTF8));
}

Statement& Statement::bind_blob(int index, std::string_view bytes) {
  return check(sqlite3_bind_blob64(handle_, index, bytes.empty() ? "" : bytes.data(), bytes.size(), SQLITE_TRANSIENT));
}

bool Statement::step() {
  const int code = sqlite3_step(handle_);
  if (code == SQLITE_ROW) return true;
  if (code != SQLITE_DONE) database_->fail(code);
  return false;
}

void Statement::run() {
  const int code = sqlite3_step(handle_);
  if (code != SQLITE_DONE && code != SQLITE_ROW) {
    const Error error(code & 0xff, sqlite3_errmsg(database_->handle()));
    sqlite3_reset(handle_);
    throw error;
  }
  sqlite3_reset(handle_);
}

std::string_view Statement::bytes(int column) const {
  const auto* data = static_cast<const char*>(sqlite3_column_blob(handle_, column));
  const auto size = static_cast<std::size_t>(sqlite3_column_bytes(handle_, column));
  return data ? std::string_view(data, size) : std::string_view();
}

std::string_view Statement::text(int column) const {
  const auto* data = reinterpret_cast<const char*>(sqlite3_column_text(handle_, column));
  const auto size = static_cast<std::size_t>(sqlite3_column_bytes(handle_, column));
  return data ? std::string_view(data, size) : std::string_view();
}

}  // namespace expertscope::sqlite
