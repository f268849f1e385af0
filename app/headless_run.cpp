#include "app/headless_run.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstring>
#include <exception>
#include <thread>

#include <fmt/format.h>

#include "app/engine_rig.h"
#include "app/progress_line.h"
#include "app/stop_signal.h"
#include "engine/error.h"
#include "profiler/report.h"
#include "profiler/trace.h"
#include "storage/writer.h"

namespace expertscope {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

std::string interruption(std::uint32_t generated) {
  return fmt::format("stopped by {} after {} generated tokens; what was recorded until then is complete",
                     strsignal(stop_signal()), generated);
}

void blank_numbers(nlohmann::ordered_json& node) {
  if (node.is_number())
    node = nullptr;
  else if (node.is_object())
    for (auto& child : node) blank_numbers(child);
}

// A zero would be read as a measurement.
void blank_what_was_not_recorded(nlohmann::ordered_json& report) {
  for (const char* block :
       {"prefill", "decode", "experts", "transfers", "overlap", "attribution_seconds_per_token", "quality"})
    blank_numbers(report[block]);
}

class HeadlessRun {
 public:
  HeadlessRun(const RunPlan& plan, const std::string& out) : plan_(plan), rig_(plan), script_(plan.script) {
    if (!out.empty()) writer_ = std::make_unique<SessionWriter>(out);
    rig_.runner().set_boundary_hook([this](std::uint32_t generated, TimeNs) { return at_boundary(generated); });
  }

  HeadlessResult run() {
    if (plan_.recorded)
      run_recorded();
    else
      run_unrecorded();
    if (writer_ != nullptr)
      if (const auto error = writer_->close()) fail_writing(*error);
    if (failure_) std::rethrow_exception(failure_);
    HeadlessResult result;
    result.report = make_report(trace_);
    if (!plan_.recorded) blank_what_was_not_recorded(result.report);
    result.interrupted = interrupted_;
    return result;
  }

 private:
  [[noreturn]] void fail_writing(const std::string& error) const {
    throw RunError(fmt::format("{}: {}; what was committed until then stays readable", writer_->path(), error));
  }

  // Engine thread.
  bool at_boundary(std::uint32_t generated) {
    if (stop_signal() != 0) {
      if (!interrupted_) interrupted_ = interruption(generated);
      return false;
    }
    if (writer_ != nullptr)
      if (const auto error = writer_->error()) fail_writing(*error);
    if (!plan_.recorded) note_change(generated);
    script_.apply_due(rig_.runner(), generated);
    return true;
  }

  // Engine thread. What an unrecorded run can say of its script's rows, to be compared with a recorded one.
  void note_change(std::uint32_t generated) {
    const bool changes = std::ranges::any_of(plan_.script, [&](const auto& e) { return e.at_token == generated; });
    if (changes || generated <= 1) seconds_at_ += fmt::format("{}:{:.6f} ", generated, seconds_since(begin_));
  }

  // Engine thread. Keeps the generated ids only where no recorder does.
  void run_prompts() {
    begin_ = Clock::now();
    try {
      while (outputs_.size() < plan_.prompts.size() && !interrupted_) {
        std::vector<BatchPrompt> batch;
        const std::size_t end =
            std::min(plan_.prompts.size(), outputs_.size() + static_cast<std::size_t>(rig_.batch_prompts()));
        for (std::size_t i = outputs_.size(); i < end; ++i) batch.push_back({plan_.prompts[i], plan_.tokens});
        for (std::vector<std::int32_t>& output : rig_.run(batch)) outputs_.push_back(std::move(output));
      }
      script_.report_rest(rig_.recorder(), rig_.runner().generated());
    } catch (...) {
      failure_ = std::current_exception();
    }
    engine_seconds_ = seconds_since(begin_);
  }

  void record_end() {
    Recorder& recorder = *rig_.recorder();
    if (interrupted_) recorder.on_health({"run.interrupted", Severity::warning, 1, *interrupted_});
    recorder.set_wall("ended_at", utc_now());
    recorder.set_wall("engine_s", fmt::format("{:.6f}", engine_seconds_));
    if (engine_seconds_ > 0)
      recorder.set_wall("computed_tokens_per_s", fmt::format("{:.3f}", rig_.runner().generated() / engine_seconds_));
    recorder.set_wall("recorder_waited_s",
                      fmt::format("{:.6f}", std::chrono::duration<double>(recorder.waited()).count()));
    recorder.set_wall("recorder_ring_bytes", std::to_string(recorder.memory_bytes()));
  }

  void run_recorded() {
    Recorder& recorder = *rig_.recorder();
    recorder.set_wall("started_at", utc_now());
    record_host(recorder, plan_);
    Collector collector(recorder);
    if (writer_ != nullptr) collector.subscribe(writer_->queue());
    const auto batches = std::make_shared<BatchQueue>();
    collector.subscribe(batches);
    std::thread engine([&] {
      run_prompts();
      rig_.finish_recording();
      record_end();
      collector.close(failure_ == nullptr);
    });
    ProgressLine progress(plan_.planned_tokens(), stderr_is_terminal());
    while (!batches->finished()) {
      for (const BatchPtr& batch : batches->wait_and_take(std::chrono::milliseconds(100))) {
        trace_.append(*batch);
        progress.add(*batch);
      }
    }
    engine.join();
  }

  // Without a recorder the run is known by its description and its tokens alone.
  void run_unrecorded() {
    const std::string started_at = utc_now();
    run_prompts();
    Batch batch;
    batch.start = rig_.runner().info();
    batch.wall = {
        {"started_at", started_at}, {"ended_at", utc_now()}, {"engine_s", fmt::format("{:.6f}", engine_seconds_)}};
    batch.wall["seconds_at_tokens"] = fmt::format("{}end:{:.6f}", seconds_at_, engine_seconds_);
    if (engine_seconds_ > 0)
      batch.wall["computed_tokens_per_s"] = fmt::format("{:.3f}", rig_.runner().generated() / engine_seconds_);
    batch.health.push_back({"profile.off", Severity::info, 1,
                            "The run was not recorded: its tokens are known, not its times, experts and transfers."});
    if (interrupted_) batch.health.push_back({"run.interrupted", Severity::warning, 1, *interrupted_});
    for (std::size_t i = 0; i < outputs_.size(); ++i) add_output(batch, static_cast<std::uint32_t>(i));
    batch.ended = failure_ == nullptr;
    if (writer_ != nullptr) {
      writer_->queue()->push(std::make_shared<const Batch>(batch));
      writer_->queue()->close();
    }
    trace_.append(batch);
  }

  void add_output(Batch& batch, std::uint32_t prompt) const {
    const PromptItem& item = plan_.prompts[prompt];
    PromptRecord record;
    record.prompt = prompt;
    record.workload = item.workload;
    record.text = item.text;
    batch.prompts.push_back(record);
    for (const std::int32_t id : outputs_[prompt]) {
      TokenRecord token;
      token.prompt = prompt;
      token.index = static_cast<std::uint32_t>(batch.tokens.size());
      token.id = id;
      token.generated = true;
      batch.tokens.push_back(token);
      if (plan_.model->has_tokenizer()) batch.pieces[id] = plan_.model->tokenizer().bytes(id);
    }
  }

  const RunPlan& plan_;
  EngineRig rig_;
  ScriptPlayer script_;
  std::unique_ptr<SessionWriter> writer_;
  Trace trace_;
  std::vector<std::vector<std::int32_t>> outputs_;
  std::optional<std::string> interrupted_;
  std::exception_ptr failure_;
  Clock::time_point begin_;
  double engine_seconds_ = 0;
  std::string seconds_at_;  // "token:seconds " at each change of the script, of a run that is not recorded
};

}  // namespace

HeadlessResult run_headless(const RunPlan& plan, const std::string& out) {
  return HeadlessRun(plan, out).run();
}

}  // namespace expertscope
