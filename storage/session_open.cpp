#include "storage/session_open.h"

#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "storage/schema.h"
#include "storage/session_header.h"

namespace expertscope {
namespace {

constexpr int kBusyTimeoutMs = 5000;
constexpr int kLongestValueBytes = 64 << 20;  // a --text prompt is the longest we write

[[noreturn]] void refuse(Refusal why, const std::string& path, const std::string& reason) {
  switch (why) {
    case Refusal::not_a_session:
      throw SessionRefused(why, fmt::format("{} is not an ExpertScope session: {}", path, reason));
    case Refusal::newer:
      throw SessionRefused(why, fmt::format("{} is from a newer version: {}", path, reason));
    case Refusal::too_old:
      throw SessionRefused(why, fmt::format("{} is too old: {}", path, reason));
    case Refusal::damaged:
      throw SessionRefused(why, fmt::format("{} is damaged: {}", path, reason));
    case Refusal::cannot_open:
      break;
  }
  throw SessionRefused(Refusal::cannot_open, fmt::format("cannot open {}: {}", path, reason));
}

void check_version(const std::string& path, std::uint32_t version) {
  if (version > kSchemaVersion) {
    refuse(Refusal::newer, path,
           fmt::format("it has schema {}, this program reads schema {}; update ExpertScope", version, kSchemaVersion));
  }
  if (version < kOldestSchemaVersion) {
    refuse(Refusal::too_old, path,
           fmt::format("it has schema {}, this program reads schemas from {} on", version, kOldestSchemaVersion));
  }
}

void check_header(const std::string& path) {
  const SessionHeader header = read_session_header(path);
  using Kind = SessionHeader::Kind;
  switch (header.kind) {
    case Kind::absent:
    case Kind::unreadable:
      refuse(Refusal::cannot_open, path, header.error);
    case Kind::empty:
      refuse(Refusal::not_a_session, path, "it is empty");
    case Kind::other:
      refuse(Refusal::not_a_session, path, "it does not begin like one");
    case Kind::session:
      check_version(path, header.version);
  }
}

void harden(sqlite::Database& db) {
  const auto configure = [&](int option, int value) { sqlite3_db_config(db.handle(), option, value, nullptr); };
  configure(SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0);
  configure(SQLITE_DBCONFIG_DEFENSIVE, 1);
  configure(SQLITE_DBCONFIG_ENABLE_TRIGGER, 0);
  configure(SQLITE_DBCONFIG_ENABLE_VIEW, 0);
  sqlite3_limit(db.handle(), SQLITE_LIMIT_LENGTH, kLongestValueBytes);
  sqlite3_limit(db.handle(), SQLITE_LIMIT_ATTACHED, 0);
  sqlite3_busy_timeout(db.handle(), kBusyTimeoutMs);
  db.exec("PRAGMA cell_size_check = ON");
  db.exec("PRAGMA mmap_size = 0");
}

using Schema = std::map<std::string, std::pair<std::string, std::string>>;  // name -> type, SQL

Schema schema_of(sqlite::Database& db) {
  Schema schema;
  sqlite::Statement rows(db, "SELECT name, type, coalesce(sql, '') FROM sqlite_schema");
  while (rows.step()) {
    schema[std::string(rows.bytes(0))] = {std::string(rows.bytes(1)), std::string(rows.bytes(2))};
  }
  return schema;
}

Schema expected_schema(std::uint32_t version) {
  sqlite::Database memory(":memory:", SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX);
  memory.exec(std::string(schema_sql(version)));
  return schema_of(memory);
}

void check_schema(const std::string& path, sqlite::Database& db, std::uint32_t version) {
  static const std::vector<Schema> all = [] {
    std::vector<Schema> schemas;
    for (std::uint32_t v = kOldestSchemaVersion; v <= kSchemaVersion; ++v) schemas.push_back(expected_schema(v));
    return schemas;
  }();
  const Schema& expected = all[version - kOldestSchemaVersion];
  const Schema found = schema_of(db);
  for (const auto& [name, entry] : expected) {
    const auto place = found.find(name);
    if (place == found.end()) refuse(Refusal::damaged, path, fmt::format("its {} '{}' is missing", entry.first, name));
    if (place->second != entry)
      refuse(Refusal::damaged, path, fmt::format("its {} '{}' has been altered", entry.first, name));
  }
  for (const auto& [name, entry] : found) {
    const bool harmless = expected.contains(name) || entry.first == "index" || name.starts_with("sqlite_");
    if (!harmless) {
      refuse(Refusal::damaged, path,
             fmt::format("it has a {} '{}' that sessions do not have", entry.first, name.substr(0, 80)));
    }
  }
}

}  // namespace

SessionRefused refusal_of(const std::string& path, const sqlite::Error& error) {
  const bool damaged = error.code() == SQLITE_CORRUPT || error.code() == SQLITE_NOTADB ||
                       error.code() == SQLITE_ERROR || error.code() == SQLITE_SCHEMA || error.code() == SQLITE_TOOBIG;
  try {
    refuse(damaged ? Refusal::damaged : Refusal::cannot_open, path, error.what());
  } catch (const SessionRefused& refusal) {
    return refusal;
  }
}

sqlite::Database claim_file(const std::string& path) {
  sqlite::Database db(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX);
  sqlite3_busy_timeout(db.handle(), 0);
  // Leaving the write-ahead log behind is only granted to the file's single user.
  if (db.text("PRAGMA journal_mode = DELETE") != "delete") throw sqlite::Error(SQLITE_BUSY, "it is in use");
  return db;
}

sqlite::Database open_session(const std::string& path, Check check) {
  check_header(path);
  try {
    sqlite::Database db(path, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX);
    harden(db);
    if (check == Check::whole) {
      const std::string found = db.text("PRAGMA quick_check(1)");
      if (found != "ok") refuse(Refusal::damaged, path, found);
    }
    // The header's version may have been the one before a crash was repaired.
    const auto version = static_cast<std::uint32_t>(db.integer("PRAGMA user_version"));
    check_version(path, version);
    check_schema(path, db, version);
    return db;
  } catch (const sqlite::Error& error) {
    throw refusal_of(path, error);
  }
}

}  // namespace expertscope
