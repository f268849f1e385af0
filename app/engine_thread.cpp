#include "app/engine_thread.h"

#include <cmath>
#include <exception>

#include <fmt/format.h>

#include "engine/error.h"

namespace expertscope {
namespace {

// An engine that is later than this does not run after its lost time.
constexpr std::chrono::milliseconds kForgivenLag{100};
constexpr double kMinSpeed = 0.001, kMaxSpeed = 1e6;
constexpr int kMaxPromptTokens = 1'000'000;

bool changes_policy(CommandKind kind) {
  return kind == CommandKind::set_policy || kind == CommandKind::set_component || kind == CommandKind::set_parameter;
}

}  // namespace

// --- Pacer

void Pacer::set_speed(double speed) {
  speed_ = speed;
  started_ = false;
}

Pacer::Clock::time_point Pacer::due(TimeNs now, Clock::time_point wall) {
  if (speed_ <= 0) return wall;
  if (started_) {
    const std::chrono::duration<double, std::nano> ahead(static_cast<double>(now - modelled_start_ns_) / speed_);
    const auto due = wall_start_ + std::chrono::duration_cast<Clock::duration>(ahead);
    if (due + kForgivenLag >= wall) return due;
  }
  started_ = true;
  modelled_start_ns_ = now;
  wall_start_ = wall;
  return wall;
}

// --- any thread

EngineThread::EngineThread(RunPlan plan, LiveOptions options)
    : plan_(std::move(plan)), options_(std::move(options)), script_(plan_.script), pacer_(options_.speed) {
  for (const PromptItem& prompt : plan_.prompts) prompts_.push_back({prompt, plan_.tokens});
  draft_.live = true;
  draft_.session_path = options_.session_path;
  draft_.speed = options_.speed;
  std::promise<void> ready;
  std::future<void> stands = ready.get_future();
  thread_ = std::thread([this, &ready] { run(ready); });
  try {
    stands.get();
  } catch (...) {
    thread_.join();
    throw;
  }
}

EngineThread::~EngineThread() {
  {
    const std::lock_guard lock(mutex_);
    stop_wanted_ = true;
  }
  arrived_.notify_one();
  thread_.join();
}

void EngineThread::send(Command command) {
  {
    const std::lock_guard lock(mutex_);
    commands_.push_back(std::move(command));
  }
  arrived_.notify_one();
}

LiveStatus EngineThread::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

// --- the engine's thread

void EngineThread::run(std::promise<void>& ready) {
  std::unique_ptr<EngineRig> rig;
  try {
    rig = std::make_unique<EngineRig>(plan_);
    writer_ = std::make_unique<SessionWriter>(options_.session_path);
    publish(*rig);
  } catch (...) {
    ready.set_exception(std::current_exception());
    return;
  }
  ready.set_value();  // from here on the constructor may have returned
  drive(*rig);
}

void EngineThread::drive(EngineRig& rig) {
  Recorder& recorder = *rig.recorder();
  recorder.set_wall("started_at", utc_now());
  record_host(recorder, plan_);
  rig.runner().set_boundary_hook([this, &rig](std::uint32_t, TimeNs now) { return at_boundary(rig, now); });
  Collector collector(recorder);
  collector.subscribe(writer_->queue());
  collector.subscribe(batches_);
  bool in_order = true;
  try {
    run_prompts(rig);
    script_.report_rest(&recorder, rig.runner().generated());
  } catch (const std::exception& error) {
    in_order = false;
    fail(error.what());
  }
  rig.finish_recording();
  recorder.set_wall("ended_at", utc_now());
  collector.close(in_order);
  if (const auto error = writer_->close(); error && !writer_failed_) fail(*error);
  const std::lock_guard lock(mutex_);
  status_.ended = true;
  status_.running = false;
}

void EngineThread::run_prompts(EngineRig& rig) {
  while (true) {
    const std::vector<BatchPrompt> prompts = next_prompts(rig);
    if (prompts.empty()) return;
    rig.run(prompts);
    if (stopping_) return;
  }
}

// As many as are decoded together and are there. Waits for one when there is none; nothing when the run is to end.
std::vector<BatchPrompt> EngineThread::next_prompts(EngineRig& rig) {
  while (true) {
    if (!serve_commands(rig)) return {};
    const auto most = static_cast<std::size_t>(rig.batch_prompts());
    std::vector<BatchPrompt> next;
    while (!prompts_.empty() && next.size() < most) {
      next.push_back(std::move(prompts_.front()));
      prompts_.pop_front();
    }
    endless_running_ = next.empty() && !options_.endless.empty();
    while (endless_running_ && next.size() < most)
      next.push_back({options_.endless[next_endless_++ % options_.endless.size()], plan_.tokens});
    in_work_ = !next.empty();
    if (in_work_) return next;
    publish(rig);
    wait_for_command({});
    pacer_.restart();
  }
}

bool EngineThread::at_boundary(EngineRig& rig, TimeNs now) {
  while (true) {
    if (!serve_commands(rig)) return false;
    if (endless_running_ && !prompts_.empty() && !paused_) return false;  // the user's prompt comes first
    if (holds(rig) || (paused_ && steps_allowed_ == 0)) {
      publish(rig);
      wait_for_command({});
      pacer_.restart();
      continue;
    }
    if (steps_allowed_ > 0) {
      --steps_allowed_;
      break;
    }
    const auto due = pacer_.due(now, Pacer::Clock::now());
    if (options_.hold_at_token || due <= Pacer::Clock::now()) break;
    publish(rig);
    wait_for_command(due);
  }
  script_.apply_due(rig.runner(), rig.runner().generated());
  publish(rig);
  return true;
}

bool EngineThread::holds(EngineRig& rig) const {
  return options_.hold_at_token && rig.runner().generated() >= *options_.hold_at_token;
}

// False when the run is to end.
bool EngineThread::serve_commands(EngineRig& rig) {
  std::deque<Command> commands;
  {
    const std::lock_guard lock(mutex_);
    commands.swap(commands_);
    stopping_ = stopping_ || stop_wanted_;
  }
  for (const Command& command : commands) {
    apply(rig, command);
    ++draft_.commands_applied;
  }
  if (!commands.empty()) publish(rig);
  return !stopping_;
}

void EngineThread::apply(EngineRig& rig, const Command& command) {
  try {
    switch (command.kind) {
      case CommandKind::pause:
        paused_ = true;
        break;
      case CommandKind::resume:
        paused_ = false;
        break;
      case CommandKind::step_token:
        steps_allowed_ += paused_ ? 1 : 0;
        break;
      case CommandKind::stop:
        stopping_ = true;
        break;
      case CommandKind::submit_prompt:
        submit(command);
        break;
      case CommandKind::set_speed:
        if (!(command.value == 0 || (command.value >= kMinSpeed && command.value <= kMaxSpeed)))
          throw InputError(fmt::format("speed must be 0 (as fast as it computes) or from {} to {}, not {}", kMinSpeed,
                                       kMaxSpeed, command.value));
        pacer_.set_speed(command.value);
        break;
      default:
        apply_to_engine(rig, command);
    }
    draft_.error = writer_failed_ ? draft_.error : "";
  } catch (const InputError& error) {
    draft_.error = error.what();
  }
}

void EngineThread::apply_to_engine(EngineRig& rig, const Command& command) {
  Runner& runner = rig.runner();
  const std::string policy = to_string(runner.policy());
  const double ratio = runner.cache_ratio();
  runner.apply(command);
  const std::string from_token = fmt::format(", from token {}", runner.generated());
  if (changes_policy(command.kind))
    draft_.last_change = fmt::format("policy {} -> {}", policy, to_string(runner.policy())) + from_token;
  else if (command.kind == CommandKind::set_cache_ratio)
    draft_.last_change = fmt::format("cache ratio {:g} -> {:g}", ratio, runner.cache_ratio()) + from_token;
  else if (command.kind == CommandKind::reset_cache)
    draft_.last_change = "cache emptied" + from_token;
}

void EngineThread::submit(const Command& command) {
  const int tokens =
      command.value >= 1 ? static_cast<int>(std::min<double>(command.value, kMaxPromptTokens)) : plan_.tokens;
  check_utf8(command.text, "prompt");
  PromptItem prompt{"", command.text, {}};
  fill_ids(prompt, *plan_.model);
  prompts_.push_back({std::move(prompt), tokens});
}

void EngineThread::publish(EngineRig& rig) {
  const Runner& runner = rig.runner();
  if (!writer_failed_) {
    if (const auto error = writer_->error()) {
      writer_failed_ = true;
      draft_.error =
          fmt::format("{}: {}; the run goes on, but is no longer recorded in the file", options_.session_path, *error);
      rig.recorder()->on_health({"session.write_failed", Severity::loss, 1, draft_.error});
    }
  }
  draft_.paused = paused_;
  draft_.running = in_work_ && !paused_;
  draft_.policy_spec = to_string(runner.policy());
  draft_.cache_ratio = runner.cache_ratio();
  draft_.cache_bytes = runner.cache_bytes();
  draft_.slots = runner.slots();
  draft_.layers = runner.info().layers;
  draft_.experts = runner.info().experts;
  draft_.slots_at_ratio_1 = static_cast<std::uint32_t>(draft_.layers * draft_.experts);
  draft_.cache_bytes_at_ratio_1 = runner.info().expert_bytes * draft_.layers * draft_.experts;
  draft_.speed = pacer_.speed();
  draft_.generated = runner.generated();
  draft_.prompts_waiting = static_cast<std::uint32_t>(prompts_.size());
  const std::lock_guard lock(mutex_);
  status_ = draft_;
}

void EngineThread::fail(const std::string& error) {
  draft_.error = error;
  const std::lock_guard lock(mutex_);
  status_.error = error;
}

// Returns when a command is there, the end is wanted, or the time has come.
void EngineThread::wait_for_command(std::optional<Pacer::Clock::time_point> until) {
  std::unique_lock lock(mutex_);
  const auto wanted = [this] { return !commands_.empty() || stop_wanted_; };
  if (until)
    arrived_.wait_until(lock, *until, wanted);
  else
    arrived_.wait(lock, wanted);
}

}  // namespace expertscope
