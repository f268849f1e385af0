// What the views ask of the program around them. Any function may be empty: its buttons are then not shown.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine/ids.h"

namespace expertscope {

struct SessionSummary {
  std::string path, name, note;
  std::string model, machine, policy;
  std::string date;  // for people
  Label label = Label::estimated;
  std::uint64_t tokens = 0;  // generated
  double tokens_per_s = 0, hit_rate = 0, cache_ratio = 0;
  std::int64_t file_bytes = 0;
  bool recording = false;  // still being written
  std::string problem;     // why it cannot be opened; "" when it can
};

struct Workload {
  std::string name;
  std::vector<std::string> prompts;
};

struct Hooks {
  std::vector<Workload> workloads;  // prompts to choose from
  int default_tokens = 128;         // to generate for a prompt
  bool has_live_run = false;        // a run is going on behind an opened session

  // All are called from the window's thread and answer at once; those that return a string return what went wrong, ""
  // when nothing did.
  std::function<std::optional<std::vector<SessionSummary>>()> list_sessions;  // nothing: the folder is still being read
  std::function<std::string(const std::string& path)> open_session;
  std::function<void()> show_live_run;
  std::function<std::string(const std::string& path, const std::string& name)> rename_session;
  std::function<std::string(const std::string& path, const std::string& note)> note_session;
  std::function<std::string(const std::string& path)> trash_session;
};

}  // namespace expertscope
