#include "app/sessions_folder.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <system_error>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "app/data_folder.h"
#include "engine/error.h"

namespace fs = std::filesystem;

namespace expertscope {
namespace {

// "demo-0007.expertscope" -> 7 for the stem "demo"; 0 for other names.
int number_of(const std::string& file_name, const std::string& stem) {
  if (!file_name.starts_with(stem + "-")) return 0;
  const char* begin = file_name.data() + stem.size() + 1;
  const char* end = file_name.data() + file_name.size();
  int number = 0;
  const auto [stop, error] = std::from_chars(begin, end, number);
  return error == std::errc{} && *stop == '.' ? number : 0;
}

}  // namespace

std::string sessions_folder() {
  return make_data_folder("sessions").string();
}

std::string new_session_path(const std::string& folder, const std::string& stem) {
  int last = 0;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error))
    last = std::max(last, number_of(entry.path().filename().string(), stem));
  for (int number = last + 1;; ++number) {
    const std::string path = (fs::path(folder) / fmt::format("{}-{:04}{}", stem, number, kSessionExtension)).string();
    const int file = open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
    if (file >= 0) {
      close(file);
      return path;
    }
    if (errno != EEXIST)
      throw InputError(
          fmt::format("{}: no session can be written there: {}", folder, std::generic_category().message(errno)));
  }
}

SessionLister::SessionLister(std::string folder) : folder_(std::move(folder)), thread_([this] { run(); }) {}

SessionLister::~SessionLister() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

std::optional<std::vector<SessionEntry>> SessionLister::entries() const {
  const std::lock_guard lock(mutex_);
  wanted_ = true;
  wake_.notify_one();
  return entries_;
}

void SessionLister::run() {
  std::unique_lock lock(mutex_);
  while (!stop_) {
    wanted_ = false;
    lock.unlock();
    std::vector<SessionEntry> entries = list_sessions(folder_);
    lock.lock();
    entries_ = std::move(entries);
    wake_.wait(lock, [this] { return wanted_ || stop_; });
    // Not more than a few listings a second, however often the window asks.
    wake_.wait_for(lock, std::chrono::milliseconds(500), [this] { return stop_; });
  }
}

}  // namespace expertscope
