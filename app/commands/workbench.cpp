#include "app/commands/workbench.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>

#include "app/demo_model.h"
#include "app/engine_thread.h"
#include "app/inputs.h"
#include "app/options.h"
#include "app/run_plan.h"
#include "app/sessions_folder.h"
#include "app/window_loop.h"
#include "app/workbench_session.h"
#include "engine/error.h"
#include "profiler/report.h"

namespace expertscope {
namespace {

struct Options {
  RunRequest run;
  WindowRequest window;
};

bool names_a_workload(const RunRequest& run) {
  return run.prompt || !run.prompt_ids.empty() || !run.ids_file.empty() || !run.prompts.empty() || !run.text.empty();
}

// The demo's prompts, beginning with the one after the prompts that the run starts with.
std::vector<PromptItem> endless_prompts(const RunPlan& plan) {
  std::vector<PromptItem> prompts = load_prompts(demo_prompts_path());
  for (PromptItem& prompt : prompts) fill_ids(prompt, *plan.model);
  const auto last = std::ranges::find(prompts, plan.prompts.back().text, &PromptItem::text);
  if (last != prompts.end()) std::ranges::rotate(prompts, last + 1);
  return prompts;
}

std::string session_stem(const RunPlan& plan) {
  return plan.demo_model ? "demo" : plan.model->path().stem().string();
}

// What an expectation says about a live run is judged when its window is closed.
bool judge_all(const std::vector<Expectation>& expectations, const Trace& trace) {
  bool all_hold = true;
  if (expectations.empty()) return all_hold;
  const nlohmann::ordered_json report = make_report(trace);
  for (const Expectation& expectation : expectations) {
    const Verdict verdict = judge(expectation, report);
    if (verdict.holds) continue;
    all_hold = false;
    say("", "expectation does not hold: " + verdict.text);
  }
  return all_hold;
}

// The engine, or nothing left behind.
std::unique_ptr<EngineThread> start_engine(RunPlan plan, const LiveOptions& live) {
  try {
    return std::make_unique<EngineThread>(std::move(plan), live);
  } catch (...) {
    std::error_code ignored;
    std::filesystem::remove(live.session_path, ignored);  // the name that was reserved
    throw;
  }
}

int run_workbench(const Options& options) {
  check_window_request(options.window);
  RunPlan plan = make_plan(options.run);
  if (!plan.recorded)
    throw InputError("--profile off: the workbench shows what is recorded; use `expertscope capture --profile off`");
  for (const std::string& notice : plan.notices) say("", notice);
  const std::vector<Expectation> expectations = plan.expectations;
  const int tokens = plan.tokens;
  const auto window = open_window(options.window);  // before a session file is begun
  LiveOptions live;
  const std::string folder = sessions_folder();
  live.session_path = new_session_path(folder, session_stem(plan));
  live.hold_at_token = options.window.at_token;
  if (!names_a_workload(options.run)) live.endless = endless_prompts(plan);
  WorkbenchSession session(start_engine(std::move(plan), live), folder);
  run_window(options.window, *window, session, tokens);
  session.pump();
  return judge_all(expectations, session.live_trace()) ? kExitDone : kExitNotHeld;
}

}  // namespace

void add_workbench(CLI::App& program, Action& action) {
  const auto options = std::make_shared<Options>();
  add_run_options(program, options->run);
  add_window_options(program, options->window, true);
  program.callback([&program, &action, options] {
    if (program.get_subcommands().empty()) action = [options] { return run_workbench(*options); };
  });
}

}  // namespace expertscope
