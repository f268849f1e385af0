// SQLite's C interface with owners and errors. Internal to storage/.
#pragma once

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include <sqlite3.h>

namespace expertscope::sqlite {

class Error : public std::runtime_error {
 public:
  Error(int code, const std::string& message) : std::runtime_error(message), code_(code) {}
  int code() const { return code_; }  // primary result code: SQLITE_FULL, SQLITE_CORRUPT

 private:
  int code_;
};

class Database {
 public:
  Database() = default;
  Database(const std::string& path, int flags);
  ~Database() { sqlite3_close_v2(handle_); }
  Database(Database&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Database& operator=(Database&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }

  sqlite3* handle() const { return handle_; }
  void exec(const char* sql);
  void exec(const std::string& sql) { exec(sql.c_str()); }
  std::string text(const std::string& sql);      // first column of the first row, "" without a row
  std::int64_t integer(const std::string& sql);  // likewise, 0
  [[noreturn]] void fail(int code) const;

 private:
  sqlite3* handle_ = nullptr;
};

class Statement {
 public:
  Statement() = default;
  Statement(Database&, std::string_view sql);
  ~Statement() { sqlite3_finalize(handle_); }
  Statement(Statement&& other) noexcept : database_(other.database_), handle_(std::exchange(other.handle_, nullptr)) {}
  Statement& operator=(Statement&& other) noexcept {
    std::swap(database_, other.database_);
    std::swap(handle_, other.handle_);
    return *this;
  }

  Statement& bind(int index, std::int64_t value) { return check(sqlite3_bind_int64(handle_, index, value)); }
  Statement& bind(int index, double value) { return check(sqlite3_bind_double(handle_, index, value)); }
  Statement& bind(int index, std::string_view text);  // copied
  Statement& bind_blob(int index, std::string_view bytes);
  Statement& bind_null(int index) { return check(sqlite3_bind_null(handle_, index)); }

  bool step();  // true: a row is there
  void reset() { sqlite3_reset(handle_); }
  void run();  // a statement without rows, ready to be bound again

  std::int64_t integer(int column) const { return sqlite3_column_int64(handle_, column); }
  double real(int column) const { return sqlite3_column_double(handle_, column); }
  bool is_null(int column) const { return sqlite3_column_type(handle_, column) == SQLITE_NULL; }
  std::string_view bytes(int column) const;  // of a text or blob; valid until the next step
  std::string_view text(int column) const;   // of any value, numbers as SQLite writes them; valid until the next step
  int columns() const { return sqlite3_column_count(handle_); }

 private:
  Statement& check(int code);

  Database* database_ = nullptr;
  sqlite3_stmt* handle_ = nullptr;
};

}  // namespace expertscope::sqlite
