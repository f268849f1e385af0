#include "app/engine_thread.h"
#include "app/headless_run.h"
#include "app/run_plan.h"
#include "app/sessions_folder.h"
#include "app/workbench_session.h"
#include "tests/gui/gui_harness.h"

namespace expertscope {
namespace {

class EngineHarness : public GuiHarness {
 public:
  explicit EngineHarness(const std::string& folder) : session_(start(folder), folder) {}

  const char* name() const override { return "engine"; }
  Hooks hooks() override { return session_.make_hooks(64); }
  void pump() override { session_.pump(); }
  const Trace& trace() const override { return session_.trace(); }
  LiveStatus status() const override { return session_.status(); }
  void send(const std::vector<Command>& commands) override { session_.send(commands); }

 private:
  static std::unique_ptr<EngineThread> start(const std::string& folder) {
    RunRequest saved;
    saved.tokens = static_cast<int>(kSavedTokens);
    saved.machine = "emulated:rtx4090-pcie4";
    run_headless(make_plan(saved), folder + "/saved" + kSessionExtension);
    RunRequest live;
    live.machine = "emulated:rtx4090-pcie4";
    RunPlan plan = make_plan(live);
    plan.prompts.clear();  // the tests type them
    LiveOptions options;
    options.session_path = new_session_path(folder, "demo");
    options.speed = 0;
    return std::make_unique<EngineThread>(std::move(plan), options);
  }

  WorkbenchSession session_;
};

}  // namespace

std::unique_ptr<GuiHarness> make_engine_harness(const std::string& folder) {
  return std::make_unique<EngineHarness>(folder);
}

}  // namespace expertscope
