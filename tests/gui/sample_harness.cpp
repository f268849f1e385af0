#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/policy/registry.h"
#include "tests/gui/gui_harness.h"
#include "tests/views/sample_trace.h"
#include "views/format.h"

namespace expertscope {
namespace {

class SampleHarness : public GuiHarness {
 public:
  SampleHarness() : batches_(sample::batches()) {
    Batch start;
    start.start = batches_.front().start;
    start.epochs = batches_.front().epochs;
    live_.append(start);
    status_ = sample::live_status(live_);
    status_.running = false;
    batches_.front().start.reset();
    batches_.front().epochs.clear();
  }

  const char* name() const override { return "sample"; }
  void pump() override {
    if (!std::exchange(closing_, false)) return;
    opened_.reset();
  }
  const Trace& trace() const override { return opened_ ? *opened_ : live_; }
  LiveStatus status() const override {
    if (!opened_) return status_;
    LiveStatus status = status_;
    status.live = false;
    status.session_path = "/sessions/night-lfu.expertscope";
    return status;
  }

  Hooks hooks() override {
    Hooks hooks = sample::hooks();
    hooks.has_live_run = true;
    hooks.list_sessions = [] {
      SessionSummary saved;
      saved.path = "/sessions/night-lfu.expertscope";
      saved.name = "night-lfu";
      return std::vector<SessionSummary>{saved};
    };
    hooks.open_session = [this](const std::string&) {
      opened_ = std::make_unique<Trace>(sample::trace({.prompts = 1, .tokens_each = kSavedTokens}));
      return std::string();
    };
    hooks.show_live_run = [this] { closing_ = true; };  // the views are drawing it
    return hooks;
  }

  void send(const std::vector<Command>& commands) override {
    for (const Command& command : commands) {
      apply(command);
      ++status_.commands_applied;
    }
  }

 private:
  void apply(const Command& command) {
    PolicySpec spec = parse_policy_spec(status_.policy_spec);
    switch (command.kind) {
      case CommandKind::set_policy:
        spec = parse_policy_spec(command.text);
        break;
      case CommandKind::set_component:
        apply_setting(spec, command.text);
        break;
      case CommandKind::set_parameter:
        apply_setting(spec, command.text + "=" + format_ratio(command.value));
        break;
      case CommandKind::set_cache_ratio:
        status_.cache_ratio = command.value;
        break;
      case CommandKind::submit_prompt:
        answer(command.text);
        return;
      case CommandKind::pause:
        status_.paused = true;
        return;
      case CommandKind::resume:
        status_.paused = false;
        return;
      case CommandKind::mark:
        mark(command.text);
        return;
      default:
        return;
    }
    status_.policy_spec = to_string(spec);
    Batch batch;
    EpochRecord epoch;
    epoch.epoch = static_cast<std::uint32_t>(live_.epochs.size());
    epoch.step = static_cast<std::uint32_t>(live_.steps.size());
    epoch.at_ns = live_.end_ns();
    epoch.source = "user";
    epoch.policy_spec = status_.policy_spec;
    epoch.cache_ratio = status_.cache_ratio;
    batch.epochs.push_back(epoch);
    live_.append(batch);
  }

  void answer(const std::string& prompt) {
    Batch batch;
    batch.prompts.push_back({static_cast<std::uint32_t>(live_.prompts.size()),
                             static_cast<std::uint32_t>(live_.steps.size()), live_.end_ns(), "", prompt});
    live_.append(batch);
    if (answered_) return;
    answered_ = true;
    for (Batch& recorded : batches_) {
      recorded.prompts.clear();
      recorded.epochs.clear();
      recorded.ended = false;
      live_.append(recorded);
    }
    status_.generated = static_cast<std::uint32_t>(live_.steps.size());
  }

  void mark(const std::string& text) {
    Batch batch;
    batch.marks.push_back({live_.end_ns(), status_.generated, text});
    live_.append(batch);
  }

  std::vector<Batch> batches_;
  Trace live_;
  std::unique_ptr<Trace> opened_;
  LiveStatus status_;
  bool answered_ = false, closing_ = false;
};

}  // namespace

std::unique_ptr<GuiHarness> make_sample_harness() {
  return std::make_unique<SampleHarness>();
}

}  // namespace expertscope
