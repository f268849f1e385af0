#include "app/engine_rig.h"

#include <algorithm>
#include <ctime>

#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "engine/error.h"
#include "engine/machines/cuda_available.h"
#include "engine/machines/cuda_machine.h"
#include "engine/machines/emulated_machine.h"

namespace expertscope {
namespace {

int most_step_tokens(const RunPlan& plan) {
  return std::max(plan.options.prefill_chunk, plan.options.sequences);
}

std::unique_ptr<Machine> make_machine(const RunPlan& plan, ThreadPool& pool, Arithmetic* arithmetic) {
  if (plan.cuda)
    return make_cuda_machine(
        *plan.model, pool,
        {.max_step_tokens = most_step_tokens(plan), .host_bytes = plan.host_bytes, .profile = plan.calibrated});
  RunShape shape = run_shape(plan.model->description(), most_step_tokens(plan));
  shape.host_bytes = plan.host_bytes;
  return make_emulated_machine(plan.profile, plan.cost_shape, shape, plan.model.get(), arithmetic);
}

// A real machine is not made to wait for its recorder: what does not fit is lost and counted, so there is more room.
RecorderOptions recorder_options(const RunPlan& plan) {
  if (!plan.cuda) return {};
  return {.when_full = WhenFull::drop, .event_capacity = 1 << 18, .route_capacity = 1 << 16};
}

}  // namespace

EngineRig::EngineRig(const RunPlan& plan)
    : plan_(plan),
      pool_(plan.threads),
      arithmetic_(plan.cuda ? nullptr
                            : std::make_unique<Arithmetic>(*plan.model, pool_, most_step_tokens(plan),
                                                           most_sequences(plan.options.sequences))),
      recorder_(plan.recorded ? std::make_unique<Recorder>(recorder_options(plan)) : nullptr),
      tracer_(plan.traces_gpu ? std::make_unique<CuptiTracer>(*recorder_) : nullptr),
      machine_(make_machine(plan, pool_, arithmetic_.get())),
      shadow_(plan.shadow_exact > 0
                  ? std::make_unique<ExactShadow>(*plan.model, pool_, most_step_tokens(plan),
                                                  most_sequences(plan.options.sequences), plan.shadow_exact)
                  : nullptr),
      runner_(std::make_unique<Runner>(*plan.model, *machine_, recorder_.get(), plan.options)) {
  runner_->set_shadow(shadow_.get());
  if (recorder_)
    for (const HealthNote& note : plan.health) recorder_->on_health(note);
}

EngineRig::~EngineRig() = default;

int EngineRig::batch_prompts() const {
  return plan_.mode == RunMode::text ? 1 : runner_->batch_prompts();
}

std::vector<std::vector<std::int32_t>> EngineRig::run(std::span<const BatchPrompt> prompts) {
  switch (plan_.mode) {
    case RunMode::generate:
      return runner_->run_batch(prompts);
    case RunMode::forced:
      runner_->run_batch(prompts, true);
      break;
    case RunMode::text:
      for (const BatchPrompt& prompt : prompts) runner_->run_text(prompt.item);
      break;
  }
  return std::vector<std::vector<std::int32_t>>(prompts.size());
}

void EngineRig::finish_recording() {
  if (!recorder_) return;
  try {
    machine_->set_observer(nullptr);  // it first tells what it has not told yet
  } catch (const RunError& error) {
    recorder_->on_health({"machine.lost_at_end", Severity::loss, 1, error.what()});
  }
  if (tracer_) tracer_->stop();
}

void ScriptPlayer::apply_due(Runner& runner, std::uint32_t generated) {
  for (; next_ < changes_.size() && changes_[next_].at_token <= generated; ++next_) {
    try {
      runner.apply(changes_[next_].command);
    } catch (const InputError& error) {
      throw InputError(fmt::format("--script: at token {}: {}", changes_[next_].at_token, error.what()));
    }
  }
}

void ScriptPlayer::report_rest(Recorder* recorder, std::uint32_t generated) const {
  if (next_ == changes_.size() || recorder == nullptr) return;
  recorder->on_health(
      {"script.not_reached", Severity::warning, changes_.size() - next_,
       fmt::format("the run ended after {} tokens, before changes of the script from token {} on could apply",
                   generated, changes_[next_].at_token)});
}

void record_host(Recorder& recorder, const RunPlan& plan) {
  utsname host{};
  if (uname(&host) == 0) {
    recorder.set_wall("host", host.nodename);
    recorder.set_wall("system", fmt::format("{} {} {}", host.sysname, host.release, host.machine));
  }
  recorder.set_wall("threads", std::to_string(plan.threads));
  recorder.set_wall("version", ES_VERSION);
  recorder.set_wall("cuda_build", cuda_build_description());
  recorder.set_wall("model_path", std::filesystem::absolute(plan.model->path()).string());
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

}  // namespace expertscope
