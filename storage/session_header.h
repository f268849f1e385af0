// The first bytes of a file, read without SQLite: enough to tell a session from anything else. Internal to storage/.
#pragma once

#include <cstdint>
#include <string>

namespace expertscope {

struct SessionHeader {
  enum class Kind : std::uint8_t { absent, unreadable, empty, other, session };
  Kind kind = Kind::absent;
  std::uint32_t version = 0;  // of a session: its schema
  std::string error;          // of an unreadable file: why
};

SessionHeader read_session_header(const std::string& path);

}  // namespace expertscope
