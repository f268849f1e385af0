// The parts of a running engine, put together in the order in which they need each other: threads, arithmetic, machine,
// recorder, runner. Headless captures and the live workbench drive the same rig.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "app/run_plan.h"
#include "engine/machine.h"
#include "engine/model/arithmetic.h"
#include "engine/model/thread_pool.h"
#include "engine/run/exact_shadow.h"
#include "engine/run/runner.h"
#include "profiler/cupti_tracer.h"
#include "profiler/recorder.h"

namespace expertscope {

// Built and used by one thread, the engine's.
class EngineRig {
 public:
  // InputError when policy, cache and machine do not fit together. The plan outlives the rig.
  explicit EngineRig(const RunPlan&);
  ~EngineRig();

  Runner& runner() { return *runner_; }
  Recorder* recorder() { return recorder_.get(); }  // nullptr with --profile off

  // How many prompts the next run() may be given.
  int batch_prompts() const;
  // Runs prompts together as the plan's mode says; returns the generated ids of each, none for given ones.
  std::vector<std::vector<std::int32_t>> run(std::span<const BatchPrompt>);

  // After the last run, before the collector is closed: what is still under way on the device is waited for and
  // recorded. Nothing may be run afterwards.
  void finish_recording();

 private:
  const RunPlan& plan_;
  ThreadPool pool_;
  std::unique_ptr<Arithmetic> arithmetic_;
  std::unique_ptr<Recorder> recorder_;
  std::unique_ptr<CuptiTracer> tracer_;  // before the machine: CUPTI must be there before the first CUDA context
  std::unique_ptr<Machine> machine_;
  std::unique_ptr<ExactShadow> shadow_;  // nullptr: none is wanted
  std::unique_ptr<Runner> runner_;
};

// Applies a script's changes when their tokens come. InputError, with the token, when the engine refuses one.
class ScriptPlayer {
 public:
  explicit ScriptPlayer(std::vector<ScriptChange> changes) : changes_(std::move(changes)) {}
  void apply_due(Runner&, std::uint32_t generated);
  // What the run never reached, counted in health.
  void report_rest(Recorder*, std::uint32_t generated) const;

 private:
  std::vector<ScriptChange> changes_;
  std::size_t next_ = 0;
};

// Facts of a run that may differ between two equal ones: host, versions, threads. Dates and paths are the caller's.
void record_host(Recorder&, const RunPlan&);
std::string utc_now();  // "2026-11-22T16:04:05Z"

}  // namespace expertscope
