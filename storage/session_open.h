// Opens a session file that nobody vouches for. Internal to storage/.
#pragma once

#include <string>

#include "storage/reader.h"
#include "storage/sqlite.h"

namespace expertscope {

enum class Check : std::uint8_t {
  whole,     // every page and value type, at 0.6 GB/s
  identity,  // header and schema alone
};

// Read-only, with everything in the file's schema untrusted. SessionRefused.
sqlite::Database open_session(const std::string& path, Check);

// Opens a file to change it, as its single user. sqlite::Error with SQLITE_BUSY when another connection, here or in
// another process, has it open.
sqlite::Database claim_file(const std::string& path);

// What SQLite says while a session is read, as a refusal.
SessionRefused refusal_of(const std::string& path, const sqlite::Error&);

}  // namespace expertscope
