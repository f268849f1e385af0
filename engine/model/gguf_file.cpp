#include "engine/model/gguf_file.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/error.h"
#include "engine/model/text_escape.h"

namespace expertscope {

namespace {

std::string system_error() {
  return std::strerror(errno);
}

std::int64_t nanoseconds(const timespec& time) {
  return time.tv_sec * 1'000'000'000 + time.tv_nsec;
}

}  // namespace

std::string in_quotes(std::string_view text) {
  constexpr std::size_t kShown = 80;
  return "'" + escaped(text.substr(0, kShown)) + (text.size() > kShown ? "…'" : "'");
}

GgufFile::GgufFile(const std::filesystem::path& path) : path_(path) {
  // Non-blocking, so that a named pipe is refused below and not waited for.
  fd_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd_ < 0) fail("cannot be opened (" + system_error() + "); check the path and its permissions");
  struct stat info {};
  const bool known = ::fstat(fd_, &info) == 0;
  if (!known || !S_ISREG(info.st_mode)) {
    ::close(fd_);
    fail("is not a regular file; give the path of a GGUF model file");
  }
  bytes_ = info.st_size;
  changed_ns_ = nanoseconds(info.st_mtim);
}

GgufFile::~GgufFile() {
  ::close(fd_);
}

void GgufFile::read(std::int64_t offset, std::span<std::byte> out, std::string_view what) const {
  while (!out.empty()) {
    const ssize_t n = ::pread(fd_, out.data(), out.size(), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_at(offset, "cannot be read at " + std::string(what) + " (" + system_error() + "); check the disk");
    if (n == 0)
      fail_at(offset, "ended while reading " + std::string(what) + "; it was shortened meanwhile, restore the file");
    out = out.subspan(static_cast<std::size_t>(n));
    offset += n;
  }
}

void GgufFile::uncache(std::int64_t offset, std::int64_t bytes) const {
  (void)::posix_fadvise(fd_, offset, bytes, POSIX_FADV_DONTNEED);
}

bool GgufFile::changed() const {
  struct stat info {};
  return ::fstat(fd_, &info) != 0 || info.st_size != bytes_ || nanoseconds(info.st_mtim) != changed_ns_;
}

void GgufFile::fail_at(std::int64_t offset, const std::string& problem) const {
  throw InputError(escaped(path_.string()) + ", byte " + std::to_string(offset) + ": " + problem);
}

void GgufFile::fail(const std::string& problem) const {
  throw InputError(escaped(path_.string()) + ": " + problem);
}

}  // namespace expertscope
