// What the window shows and commands: the live run, a session file, or one in front of the other. No window in here.
// All members belong to the window's thread; none of them waits for the engine or the disk.
//
// A live run goes on, and goes on being recorded, while another session is looked at.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "app/engine_thread.h"
#include "app/file_follower.h"
#include "app/sessions_folder.h"
#include "profiler/trace.h"
#include "views/hooks.h"

namespace expertscope {

class WorkbenchSession {
 public:
  // `live` may be nullptr. The sessions window lists `folder`.
  WorkbenchSession(std::unique_ptr<EngineThread> live, std::string folder);

  // Appends what arrived since the last call. True when what is shown changed.
  bool pump();

  const Trace& trace() const { return file_ != nullptr ? *file_trace_ : live_trace_; }
  LiveStatus status() const;
  void send(const std::vector<Command>&);  // to the live run, when it is what is shown

  // Starts reading a session; it is shown as soon as it is read. SessionRefused when it cannot be.
  void open(const std::string& path);
  bool opening() const { return opening_ != nullptr; }
  std::string problem() const { return problem_; }  // why a session that was being opened is not shown
  void show_live();

  bool shows_live() const { return file_ == nullptr; }
  const Trace& live_trace() const { return live_trace_; }
  EngineThread* live() { return live_.get(); }

  Hooks make_hooks(int default_tokens);

 private:
  void close_file();
  bool pump_live();
  bool pump_file();
  std::optional<std::vector<SessionSummary>> list() const;

  std::unique_ptr<EngineThread> live_;
  SessionLister lister_;
  Trace live_trace_;
  std::unique_ptr<FileFollower> opening_;  // until its trace is made; what was shown before stays
  std::unique_ptr<FileFollower> file_;
  std::string opening_path_, file_path_, problem_;
  std::unique_ptr<Trace> file_trace_;
  bool switched_ = false;
  bool closing_ = false;  // the opened session, at the next pump
};

// Of the bundled prompts file, for the control window.
std::vector<Workload> demo_workloads();

}  // namespace expertscope
