#include "app/workbench_session.h"

#include <algorithm>
#include <ctime>
#include <exception>
#include <filesystem>
#include <utility>

#include "app/demo_model.h"
#include "app/inputs.h"

namespace expertscope {
namespace {

// A session that was not closed is being recorded when its file changed just now; else its program was killed.
constexpr std::int64_t kStillRecorded_s = 10;

std::string absolute(const std::string& path) {
  return std::filesystem::absolute(path).lexically_normal().string();
}

Label label_named(const std::string& text) {
  for (const Label label : {Label::measured, Label::estimated, Label::simulated})
    if (name(label) == text) return label;
  return Label::estimated;
}

SessionSummary summary_of(const SessionEntry& entry, const std::string& live_path) {
  SessionSummary summary;
  summary.path = entry.path;
  summary.name = std::filesystem::path(entry.file_name).stem().string();
  summary.note = entry.note;
  summary.model = entry.model;
  summary.machine = entry.machine;
  summary.policy = entry.policy;
  summary.date = entry.started_at;
  summary.label = label_named(entry.label);
  summary.tokens = entry.decode_tokens;
  summary.tokens_per_s = entry.tokens_per_s.value_or(0);
  summary.hit_rate = entry.hit_rate.value_or(0);
  summary.cache_ratio = entry.cache_ratio;
  summary.file_bytes = entry.size_bytes;
  const bool fresh = std::time(nullptr) - entry.modified_unix_s < kStillRecorded_s;
  summary.recording = !entry.ended && (entry.path == live_path || fresh);
  summary.problem = entry.refusal;
  return summary;
}

// What the hooks promise: "" or what went wrong.
template <typename Function>
std::string told(Function&& function) {
  try {
    function();
    return "";
  } catch (const std::exception& error) {
    return error.what();
  }
}

}  // namespace

WorkbenchSession::WorkbenchSession(std::unique_ptr<EngineThread> live, std::string folder)
    : live_(std::move(live)), lister_(absolute(folder)) {}

bool WorkbenchSession::pump_live() {
  if (live_ == nullptr) return false;
  const auto batches = live_->batches()->take();
  for (const BatchPtr& batch : batches) live_trace_.append(*batch);
  return !batches.empty() && shows_live();
}

bool WorkbenchSession::pump_file() {
  bool changed = false;
  if (opening_ != nullptr) {
    if (std::unique_ptr<Trace> trace = opening_->take_trace()) {
      file_ = std::move(opening_);
      file_trace_ = std::move(trace);
      file_path_ = opening_path_;
      changed = true;
    } else if (const std::string error = opening_->error(); !error.empty()) {
      problem_ = error;
      opening_.reset();
      changed = true;
    }
  }
  if (file_ == nullptr) return changed;
  for (const BatchPtr& batch : file_->batches()->take()) {
    file_trace_->append(*batch);
    changed = true;
  }
  return changed;
}

bool WorkbenchSession::pump() {
  if (std::exchange(closing_, false)) close_file();
  const bool live_changed = pump_live();
  const bool file_changed = pump_file();
  return std::exchange(switched_, false) || live_changed || file_changed;
}

LiveStatus WorkbenchSession::status() const {
  LiveStatus status;
  if (live_ != nullptr && shows_live()) {
    status = live_->status();
  } else {
    status.session_path = file_path_;
    if (file_ != nullptr) status.error = file_->error();
  }
  if (status.error.empty()) status.error = problem_;
  return status;
}

void WorkbenchSession::send(const std::vector<Command>& commands) {
  if (live_ == nullptr || !shows_live()) return;
  for (const Command& command : commands) live_->send(command);
}

void WorkbenchSession::open(const std::string& path) {
  problem_.clear();
  closing_ = false;
  opening_path_ = absolute(path);
  opening_.reset();
  opening_ = std::make_unique<FileFollower>(opening_path_);
}

// Views call this while they draw the session that is to be closed.
void WorkbenchSession::show_live() {
  closing_ = true;
}

void WorkbenchSession::close_file() {
  opening_.reset();
  file_.reset();
  file_trace_.reset();
  file_path_.clear();
  problem_.clear();
  switched_ = true;
}

std::optional<std::vector<SessionSummary>> WorkbenchSession::list() const {
  const std::optional<std::vector<SessionEntry>> entries = lister_.entries();
  if (!entries) return std::nullopt;
  const std::string live_path = live_ != nullptr ? live_->status().session_path : "";
  std::vector<SessionSummary> summaries;
  for (const SessionEntry& entry : *entries) summaries.push_back(summary_of(entry, live_path));
  // What is being recorded is newest, whatever the time of its file says: SQLite writes beside it.
  std::stable_partition(summaries.begin(), summaries.end(), [](const SessionSummary& s) { return s.recording; });
  return summaries;
}

Hooks WorkbenchSession::make_hooks(int default_tokens) {
  Hooks hooks;
  hooks.workloads = demo_workloads();
  hooks.default_tokens = default_tokens;
  hooks.has_live_run = live_ != nullptr;
  hooks.list_sessions = [this] { return list(); };
  hooks.open_session = [this](const std::string& path) {
    if (live_ != nullptr && absolute(path) == live_->status().session_path) {
      show_live();
      return std::string();
    }
    return told([&] { open(path); });
  };
  if (live_ != nullptr) hooks.show_live_run = [this] { show_live(); };
  hooks.rename_session = [](const std::string& path, const std::string& name) {
    const std::filesystem::path file(name);
    return told([&] { rename_session(path, file.has_extension() ? name : name + kSessionExtension); });
  };
  hooks.note_session = [](const std::string& path, const std::string& note) {
    return told([&] { set_session_note(path, note); });
  };
  hooks.trash_session = [](const std::string& path) { return told([&] { trash_session(path); }); };
  return hooks;
}

std::vector<Workload> demo_workloads() {
  std::vector<Workload> workloads;
  for (const PromptItem& prompt : load_prompts(demo_prompts_path())) {
    if (workloads.empty() || workloads.back().name != prompt.workload) workloads.push_back({prompt.workload, {}});
    workloads.back().prompts.push_back(prompt.text);
  }
  return workloads;
}

}  // namespace expertscope
