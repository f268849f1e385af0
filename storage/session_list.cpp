#include "storage/session_list.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>

#include <fmt/format.h>
#include <sys/stat.h>

#include "engine/error.h"
#include "storage/session_facts.h"
#include "storage/session_header.h"
#include "storage/session_open.h"

namespace expertscope {
namespace {

namespace fs = std::filesystem;

constexpr const char* kNoteKey = "note";
constexpr const char* kStartedAtKey = "started_at";

std::int64_t size_or_zero(const std::string& path) {
  std::error_code error;
  const auto size = fs::file_size(path, error);
  return error ? 0 : static_cast<std::int64_t>(size);
}

std::int64_t modified_unix_s(const std::string& path) {
  struct stat status {};
  return stat(path.c_str(), &status) == 0 ? static_cast<std::int64_t>(status.st_mtime) : 0;
}

SessionFacts read_facts(sqlite::Database& db, const char* sql) {
  SessionFacts facts;
  sqlite::Statement rows(db, sql);
  while (rows.step()) facts[std::string(rows.bytes(0))] = std::string(rows.bytes(1));
  return facts;
}

std::string value_or_empty(const SessionFacts& facts, const char* key) {
  const auto found = facts.find(key);
  return found == facts.end() ? "" : found->second;
}

void fill(SessionEntry& entry, sqlite::Database& db) {
  const SessionFacts facts = read_facts(db, "SELECT key, value FROM session");
  const SessionFacts wall = read_facts(db, "SELECT key, value FROM wall");
  entry.note = value_or_empty(wall, kNoteKey);
  entry.started_at = value_or_empty(wall, kStartedAtKey);
  entry.ended = value_or_empty(facts, kEndStateKey) == kEnded;
  entry.epochs = static_cast<std::uint32_t>(db.integer("SELECT count(*) FROM epoch"));
  if (!facts.empty()) {
    const RunInfo info = run_info_of(facts);
    entry.model = info.model_name;
    entry.machine = info.machine_kind == "emulated" ? "emulated:" + info.profile_name : info.machine_kind;
    entry.cost_shape = info.cost_shape;
    entry.policy = info.policy_spec;
    entry.label = std::string(name(info.label));
    entry.cache_ratio = info.cache_ratio;
  }
  sqlite::Statement headline(db, "SELECT decode_tokens, decode_ns, decode_demands, decode_hits FROM headline");
  if (!headline.step()) return;
  const auto tokens = headline.integer(0), time_ns = headline.integer(1), demands = headline.integer(2),
             hits = headline.integer(3);
  if (tokens < 0 || time_ns < 0 || demands < 0 || hits < 0 || hits > demands) return;
  entry.decode_tokens = static_cast<std::uint64_t>(tokens);
  if (tokens > 0 && time_ns > 0) entry.tokens_per_s = static_cast<double>(tokens) * 1e9 / static_cast<double>(time_ns);
  if (demands > 0) entry.hit_rate = static_cast<double>(hits) / static_cast<double>(demands);
}

sqlite::Database open_alone(const std::string& path) {
  open_session(path, Check::identity);
  return claim_file(path);
}

void check_not_in_use(const std::string& path) {
  try {
    open_alone(path);
  } catch (const sqlite::Error& error) {
    throw RunError(fmt::format("{} was left as it is: {}", path,
                               error.code() == SQLITE_BUSY ? "it is open elsewhere" : error.what()));
  }
}

fs::path trash_folder() {
  if (const char* data = std::getenv("XDG_DATA_HOME"); data && *data == '/') return fs::path(data) / "Trash";
  if (const char* home = std::getenv("HOME"); home && *home == '/') return fs::path(home) / ".local/share/Trash";
  throw RunError("there is no trash: neither XDG_DATA_HOME nor HOME is set");
}

// As the freedesktop.org trash specification wants paths: percent-encoded.
std::string percent_encoded(const std::string& path) {
  std::string result;
  for (const char c : path) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("/-_.~").find(c) != std::string_view::npos;
    result += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return result;
}

void move_file(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error != std::errc::cross_device_link) {
    if (error) throw RunError(fmt::format("cannot move {} to {}: {}", from.string(), to.string(), error.message()));
    return;
  }
  fs::copy_file(from, to, error);
  if (!error) fs::remove(from, error);
  if (error) throw RunError(fmt::format("cannot move {} to {}: {}", from.string(), to.string(), error.message()));
}

}  // namespace

SessionEntry describe_session(const std::string& path) {
  SessionEntry entry;
  entry.path = path;
  entry.file_name = fs::path(path).filename().string();
  entry.size_bytes = size_or_zero(path) + size_or_zero(path + "-wal");
  entry.modified_unix_s = std::max(modified_unix_s(path), modified_unix_s(path + "-wal"));
  try {
    sqlite::Database db = open_session(path, Check::identity);
    fill(entry, db);
  } catch (const sqlite::Error& error) {
    entry.refusal = refusal_of(path, error).what();
  } catch (const InputError& error) {
    entry.refusal = error.what();
  }
  return entry;
}

std::vector<SessionEntry> list_sessions(const std::string& folder) {
  std::vector<SessionEntry> entries;
  std::error_code error;
  for (fs::directory_iterator i(folder, error), end; !error && i != end; i.increment(error)) {
    if (read_session_header(i->path().string()).kind == SessionHeader::Kind::session) {
      entries.push_back(describe_session(i->path().string()));
    }
  }
  std::ranges::sort(entries, [](const SessionEntry& a, const SessionEntry& b) {
    return a.modified_unix_s != b.modified_unix_s ? a.modified_unix_s > b.modified_unix_s : a.file_name < b.file_name;
  });
  return entries;
}

std::string rename_session(const std::string& path, const std::string& new_file_name) {
  if (new_file_name.empty() || new_file_name == "." || new_file_name == ".." ||
      new_file_name.find('/') != std::string::npos) {
    throw RunError(fmt::format("'{}' is not a file name", new_file_name));
  }
  const fs::path to = fs::path(path).parent_path() / new_file_name;
  if (fs::exists(to)) throw RunError(fmt::format("there is already a {}", to.string()));
  check_not_in_use(path);
  move_file(path, to);
  return to.string();
}

void set_session_note(const std::string& path, const std::string& note) {
  try {
    sqlite::Database db = open_alone(path);
    sqlite::Statement insert(db, "INSERT OR REPLACE INTO wall (key, value) VALUES (?,?)");
    insert.bind(1, std::string_view(kNoteKey)).bind(2, std::string_view(note)).run();
  } catch (const sqlite::Error& error) {
    throw RunError(fmt::format("cannot note anything in {}: {}", path,
                               error.code() == SQLITE_BUSY ? "it is open elsewhere" : error.what()));
  }
}

void trash_session(const std::string& path) {
  check_not_in_use(path);
  const fs::path trash = trash_folder();
  std::error_code error;
  fs::create_directories(trash / "files", error);
  fs::create_directories(trash / "info", error);
  if (error) throw RunError(fmt::format("there is no trash: {}: {}", trash.string(), error.message()));
  const fs::path file = fs::absolute(path);
  std::string name = file.filename().string();
  for (int n = 2; fs::exists(trash / "files" / name) || fs::exists(trash / "info" / (name + ".trashinfo")); ++n) {
    name = fmt::format("{} {}", file.filename().string(), n);
  }
  char date[32] = "";
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  struct tm local {};
  localtime_r(&now, &local);
  std::strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &local);
  std::ofstream info(trash / "info" / (name + ".trashinfo"));
  info << "[Trash Info]\nPath=" << percent_encoded(file.string()) << "\nDeletionDate=" << date << "\n";
  if (!info.flush()) throw RunError(fmt::format("cannot write to the trash at {}", trash.string()));
  move_file(file, trash / "files" / name);
}

}  // namespace expertscope
