// Where the workbench keeps the sessions of its live runs, and a listing of them that never holds up the window.
#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "storage/session_list.h"

namespace expertscope {

inline constexpr const char* kSessionExtension = ".expertscope";

// $XDG_DATA_HOME/expertscope/sessions, else ~/.local/share/expertscope/sessions, else ./sessions. Made when it is not
// there; InputError when that fails.
std::string sessions_folder();

// Reserves the next free name, such as demo-0007.expertscope, as an empty file. InputError when the folder cannot be
// written.
std::string new_session_path(const std::string& folder, const std::string& stem);

// Lists a folder again and again on a thread of its own.
class SessionLister {
 public:
  explicit SessionLister(std::string folder);
  ~SessionLister();
  SessionLister(const SessionLister&) = delete;
  SessionLister& operator=(const SessionLister&) = delete;

  // Of the last listing, nothing before the first has ended; asking keeps the lister awake.
  std::optional<std::vector<SessionEntry>> entries() const;

 private:
  void run();

  const std::string folder_;
  mutable std::mutex mutex_;
  mutable std::condition_variable wake_;
  mutable bool wanted_ = true;
  bool stop_ = false;
  std::optional<std::vector<SessionEntry>> entries_;
  std::thread thread_;
};

}  // namespace expertscope
