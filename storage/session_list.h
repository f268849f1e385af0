// The session files of a folder with their headline numbers, and what one can do with them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace expertscope {

struct SessionEntry {
  std::string path, file_name;
  std::string refusal;  // why it cannot be opened; "" when it can, and only then the rest is filled
  std::string model, machine, cost_shape, policy;
  std::string label;  // MEASURED, ESTIMATED or SIMULATED
  double cache_ratio = 0;
  std::uint64_t decode_tokens = 0;
  std::optional<double> tokens_per_s, hit_rate;  // of decode; empty when nothing was decoded
  std::uint32_t epochs = 0;
  std::string started_at;  // as the recording computer's clock said, "" when unknown
  std::string note;
  std::int64_t size_bytes = 0;       // file and write-ahead log
  std::int64_t modified_unix_s = 0;  // of the file
  bool ended = false;                // closed in order; false while it is being written, or after a kill
};

// Newest first. Files that are not sessions are left out; sessions that cannot be read are listed with the reason.
// Never reads more than a few pages of each.
std::vector<SessionEntry> list_sessions(const std::string& folder);
SessionEntry describe_session(const std::string& path);

// RunError with the reason when it cannot be done. A session that is still being written is left alone.
std::string rename_session(const std::string& path, const std::string& new_file_name);  // returns the new path
void set_session_note(const std::string& path, const std::string& note);
void trash_session(const std::string& path);  // to the desktop's trash, from where the user can get it back

}  // namespace expertscope
