#include "engine/model/expert_version_file.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "engine/error.h"
#include "engine/model/text_escape.h"
#include "engine/model/thread_pool.h"

namespace expertscope {
namespace {

std::string system_error() {
  return std::generic_category().message(errno);
}

}  // namespace

std::filesystem::path ExpertVersionFile::folder_for(const Model& model) {
  const char* temporary = std::getenv("TMPDIR");
  if (temporary != nullptr && *temporary != '\0') return temporary;
  return model.path().has_parent_path() ? model.path().parent_path() : std::filesystem::path(".");
}

ExpertVersionFile::ExpertVersionFile(const Model& model, Precision precision, const std::filesystem::path& folder)
    : places_(model.description(), precision), folder_(folder) {
  std::string name = (folder / "expertscope-XXXXXX").string();
  fd_ = ::mkostemp(name.data(), O_CLOEXEC);
  const auto fail = [&](const std::string& problem) {
    throw InputError(fmt::format(
        "{}: {}; the policy wants experts in {}, and with --host-bytes these {:.2f} GB lie in a file there: make room, "
        "set TMPDIR to another folder, or choose a policy in the file's precision",
        escaped(folder.string()), problem, expertscope::name(precision), static_cast<double>(places_.bytes()) / 1e9));
  };
  if (fd_ < 0) fail("no file can be made (" + system_error() + ")");
  (void)::unlink(name.c_str());
  try {
    // Asked for as a whole, so that a disk that is too small says so at once.
    if (const int error = ::posix_fallocate(fd_, 0, places_.bytes()); error != 0)
      fail("no room (" + std::generic_category().message(error) + ")");
    write_all(model, precision);
    if (::fdatasync(fd_) != 0) fail("cannot be written (" + system_error() + ")");
  } catch (...) {
    ::close(fd_);
    throw;
  }
  (void)::posix_fadvise(fd_, 0, places_.bytes(), POSIX_FADV_DONTNEED);
}

ExpertVersionFile::~ExpertVersionFile() {
  ::close(fd_);
}

void ExpertVersionFile::write_all(const Model& model, Precision precision) const {
  ThreadPool pool(static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
  std::atomic<bool> failed{false};
  std::mutex mutex;
  std::exception_ptr failure;
  pool.parallel_for(places_.count(), [&](int i, int) {
    if (failed) return;
    try {
      const ExpertId id = places_.expert(i);
      std::vector<std::byte> native(static_cast<std::size_t>(model.blob_layout(id.layer).bytes)),
          version(static_cast<std::size_t>(layout(id.layer).bytes));
      const Model::ExpertRead read{id, native.data()};
      model.read_experts({&read, 1}, 1);
      make_version(precision, model.blob_layout(id.layer), native.data(), layout(id.layer), version.data());
      write(id, version);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!failed.exchange(true)) failure = std::current_exception();
    }
  });
  if (failure) std::rethrow_exception(failure);
}

void ExpertVersionFile::write(ExpertId id, std::span<const std::byte> blob) const {
  std::int64_t offset = places_.offset(id);
  while (!blob.empty()) {
    const ssize_t n = ::pwrite(fd_, blob.data(), blob.size(), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      throw InputError(escaped(folder_.string()) + ": a file of experts in lower precision cannot be written (" +
                       system_error() + "): check the disk, or set TMPDIR to another folder");
    }
    blob = blob.subspan(static_cast<std::size_t>(n));
    offset += n;
  }
}

void ExpertVersionFile::read(ExpertId id, std::byte* blob) const {
  const std::int64_t first = places_.offset(id), bytes = layout(id.layer).bytes;
  for (std::int64_t done = 0; done < bytes;) {
    const ssize_t n = ::pread(fd_, blob + done, static_cast<std::size_t>(bytes - done), first + done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      throw RunError(escaped(folder_.string()) + ": experts in lower precision cannot be read back (" +
                     (n < 0 ? system_error() : "the file was shortened") + "): check the disk");
    }
    done += n;
  }
  (void)::posix_fadvise(fd_, first, bytes, POSIX_FADV_DONTNEED);
}

}  // namespace expertscope
