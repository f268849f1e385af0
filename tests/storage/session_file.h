// Session files in a folder of their own that goes away with the test.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <stdlib.h>

#include "profiler/batch.h"
#include "storage/sqlite.h"
#include "storage/writer.h"

namespace expertscope::test {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "expertscope-test-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::permissions(path_, std::filesystem::perms::owner_all, ignored);
    std::filesystem::remove_all(path_, ignored);
  }
  std::string file(const std::string& name) const { return (path_ / name).string(); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// Writes the batches and closes the session.
inline void write_session(const std::string& path, const std::vector<Batch>& batches) {
  SessionWriter writer(path);
  for (const Batch& batch : batches) writer.queue()->push(std::make_shared<const Batch>(batch));
  writer.queue()->close();
  ASSERT_EQ(writer.close(), std::nullopt);
}

// All rows of a query as text, columns joined by '|', NULL as "NULL".
inline std::vector<std::string> query(const std::string& path, const std::string& sql) {
  sqlite::Database db(path, SQLITE_OPEN_READONLY);
  sqlite::Statement statement(db, sql);
  std::vector<std::string> rows;
  while (statement.step()) {
    std::string row;
    for (int c = 0; c < statement.columns(); ++c) {
      row += (c ? "|" : "") + (statement.is_null(c) ? "NULL" : std::string(statement.text(c)));
    }
    rows.push_back(row);
  }
  return rows;
}

// Changes a session behind its back.
inline void tamper(const std::string& path, const std::string& sql) {
  sqlite::Database db(path, SQLITE_OPEN_READWRITE);
  db.exec(sql);
}

}  // namespace expertscope::test
