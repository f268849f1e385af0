// One file of a model, open for reading by pread, so that one that shrinks under us is an error and not a signal.
// Immutable after construction; all functions may be called from any thread. Errors are InputErrors that name the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace expertscope {

class GgufFile {
 public:
  explicit GgufFile(const std::filesystem::path& path);
  ~GgufFile();
  GgufFile(const GgufFile&) = delete;
  GgufFile& operator=(const GgufFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::int64_t bytes() const { return bytes_; }  // when it was opened

  // Fills `out` from `offset`. A file that ends early or cannot be read throws, naming `what`.
  void read(std::int64_t offset, std::span<std::byte> out, std::string_view what) const;

  // What is read of it may leave the system's own cache: for files that are read from the disk again and again.
  void uncache(std::int64_t offset, std::int64_t bytes) const;

  // Whether its size or time of change are others than when it was opened.
  bool changed() const;

  [[noreturn]] void fail_at(std::int64_t offset, const std::string& problem) const;
  [[noreturn]] void fail(const std::string& problem) const;

 private:
  std::filesystem::path path_;
  int fd_ = -1;
  std::int64_t bytes_ = 0, changed_ns_ = 0;  // when opened
};

// Text from a file in a message: escaped, cut where it is long, in quotes.
std::string in_quotes(std::string_view text);

}  // namespace expertscope
