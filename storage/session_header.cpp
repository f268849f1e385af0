#include "storage/session_header.h"

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <system_error>

#include "storage/schema.h"

namespace expertscope {
namespace {

// Offsets in the header of every SQLite database file (https://sqlite.org/fileformat2.html#the_database_header).
constexpr char kMagic[16] = "SQLite format 3";
constexpr std::size_t kHeaderBytes = 100, kUserVersionAt = 60, kApplicationIdAt = 68;

std::uint32_t big_endian(const unsigned char* at) {
  return std::uint32_t{at[0]} << 24 | std::uint32_t{at[1]} << 16 | std::uint32_t{at[2]} << 8 | std::uint32_t{at[3]};
}

}  // namespace

SessionHeader read_session_header(const std::string& path) {
  using Kind = SessionHeader::Kind;
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (status.type() == std::filesystem::file_type::not_found) return {Kind::absent, 0, "there is no such file"};
  if (status.type() != std::filesystem::file_type::regular) {
    return {Kind::unreadable, 0, error ? error.message() : "it is not a regular file"};
  }
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), &std::fclose);
  if (!file) return {Kind::unreadable, 0, std::strerror(errno)};
  std::array<unsigned char, kHeaderBytes> bytes{};
  const std::size_t size = std::fread(bytes.data(), 1, bytes.size(), file.get());
  if (std::ferror(file.get())) return {Kind::unreadable, 0, std::strerror(errno)};
  if (size == 0) return {Kind::empty, 0, ""};
  if (size < bytes.size() || std::memcmp(bytes.data(), kMagic, sizeof kMagic) != 0 ||
      big_endian(bytes.data() + kApplicationIdAt) != kApplicationId) {
    return {Kind::other, 0, ""};
  }
  return {Kind::session, big_endian(bytes.data() + kUserVersionAt), ""};
}

}  // namespace expertscope
