// The live engine of the workbench, on its own thread: prompts from a queue, commands applied at token boundaries,
// modelled time paced to the wall clock, everything recorded into a session file. The window never waits for it, nor it
// for the window.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "app/engine_rig.h"
#include "app/run_plan.h"
#include "engine/command.h"
#include "engine/run/live_status.h"
#include "profiler/batch_queue.h"
#include "storage/writer.h"

namespace expertscope {

struct LiveOptions {
  std::string session_path;
  // When the plan's prompts are done: go on with these, again and again; a prompt of the user's comes before and ends
  // the one that is running. Empty: wait for the user.
  std::vector<PromptItem> endless;
  double speed = 1;  // modelled seconds per wall second; 0 = as fast as it computes
  // Compute to this generated token as fast as possible and stay there, for pictures: the same command shows the same.
  std::optional<std::uint32_t> hold_at_token;
};

// Keeps modelled time and wall time together: says until when the engine has to wait.
class Pacer {
 public:
  using Clock = std::chrono::steady_clock;
  explicit Pacer(double speed) : speed_(speed) {}
  void set_speed(double speed);
  double speed() const { return speed_; }
  // The wall time at which modelled `now` is due. When the engine is late, or was paused, time starts anew from here.
  Clock::time_point due(TimeNs now, Clock::time_point wall);
  void restart() { started_ = false; }

 private:
  double speed_;
  bool started_ = false;
  TimeNs modelled_start_ns_ = 0;
  Clock::time_point wall_start_;
};

class EngineThread {
 public:
  // Returns once the engine stands and its session file is there. InputError when parts do not fit together or the file
  // cannot be made. What fails later is told by status().error.
  EngineThread(RunPlan, LiveOptions);
  ~EngineThread();  // ends the run at the next token boundary and closes the session
  EngineThread(const EngineThread&) = delete;
  EngineThread& operator=(const EngineThread&) = delete;

  // Any thread; these never wait for the engine.
  void send(Command);
  LiveStatus status() const;
  std::shared_ptr<BatchQueue> batches() const { return batches_; }

 private:
  // All of these on the engine's thread.
  void run(std::promise<void>& ready);
  void drive(EngineRig&);
  void run_prompts(EngineRig&);
  bool at_boundary(EngineRig&, TimeNs now);
  bool holds(EngineRig&) const;
  std::vector<BatchPrompt> next_prompts(EngineRig&);
  bool serve_commands(EngineRig&);
  void apply(EngineRig&, const Command&);
  void apply_to_engine(EngineRig&, const Command&);
  void submit(const Command&);
  void publish(EngineRig&);
  void fail(const std::string& error);
  void wait_for_command(std::optional<Pacer::Clock::time_point> until);

  RunPlan plan_;
  LiveOptions options_;
  std::shared_ptr<BatchQueue> batches_ = std::make_shared<BatchQueue>();

  mutable std::mutex mutex_;  // of the four below
  std::condition_variable arrived_;
  std::deque<Command> commands_;
  LiveStatus status_;
  bool stop_wanted_ = false;

  // The engine thread's own.
  ScriptPlayer script_;
  Pacer pacer_;
  std::unique_ptr<SessionWriter> writer_;
  std::deque<BatchPrompt> prompts_;
  LiveStatus draft_;  // what publish() copies out
  std::size_t next_endless_ = 0;
  int steps_allowed_ = 0;
  bool paused_ = false, stopping_ = false, in_work_ = false;
  bool endless_running_ = false;  // the prompts in work are of options_.endless
  bool writer_failed_ = false;

  std::thread thread_;  // last: it uses all of the above
};

}  // namespace expertscope
