#include "app/commands/capture.h"

#include <fstream>
#include <memory>
#include <optional>

#include <fmt/format.h>

#include "app/headless_run.h"
#include "app/options.h"
#include "app/summary.h"
#include "engine/error.h"

namespace expertscope {
namespace {

constexpr const char* kCommand = "capture";

struct Options {
  RunRequest run;
  std::string out;
  std::optional<std::string> json;  // "-" or a path
};

// Opened before the run, so that a path that cannot be written is known before the work is done.
class JsonTarget {
 public:
  explicit JsonTarget(const std::optional<std::string>& target) : target_(target) {
    if (!target_ || *target_ == "-") return;
    file_.open(*target_, std::ios::binary | std::ios::trunc);
    if (!file_)
      throw InputError("--json: " + *target_ + " cannot be written: " + std::generic_category().message(errno));
  }

  bool to_stdout() const { return target_ == "-"; }

  void write(const nlohmann::ordered_json& report) {
    if (!target_) return;
    if (to_stdout()) return print_json(report);
    file_ << report.dump(2) << '\n' << std::flush;
    if (!file_) throw RunError("--json: " + *target_ + " could not be written completely; is the disk full?");
  }

 private:
  std::optional<std::string> target_;
  std::ofstream file_;
};

// Prints every expectation that does not hold; returns whether all do.
bool judge_all(const RunPlan& plan, const nlohmann::ordered_json& report) {
  bool all_hold = true;
  for (const Expectation& expectation : plan.expectations) {
    const Verdict verdict = judge(expectation, report);
    if (verdict.holds) continue;
    all_hold = false;
    say(kCommand, "expectation does not hold: " + verdict.text);
  }
  return all_hold;
}

int run_capture(const Options& options) {
  const RunPlan plan = make_plan(options.run);
  if (plan.recorded && options.out.empty())
    throw InputError("--out is missing: name the session file (it may be left out with --profile off)");
  for (const std::string& notice : plan.notices) say(kCommand, notice);
  JsonTarget json(options.json);
  const HeadlessResult result = run_headless(plan, options.out);
  json.write(result.report);
  if (!json.to_stdout()) print((options.out.empty() ? "not recorded" : options.out) + "\n" + summary_of(result.report));
  if (result.interrupted) throw RunError(*result.interrupted);
  return judge_all(plan, result.report) ? kExitDone : kExitNotHeld;
}

}  // namespace

void add_capture(CLI::App& program, Action& action) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand(
      kCommand, "Run without a window: one session file, one report, an exit code that means something");
  command->add_option("--out", options->out, "Session file to write; an earlier session there is replaced")
      ->type_name("FILE");
  command
      ->add_option_function<std::vector<std::string>>(
          "--json",
          [options](const std::vector<std::string>& target) {
            options->json = target.empty() || target[0].empty() ? "-" : target[0];
          },
          "Write the report to PATH, or to standard output alone with - or without a value")
      ->type_name("[PATH|-]")
      ->expected(0, 1);
  add_run_options(*command, options->run);
  command->callback([&action, options] { action = [options] { return run_capture(*options); }; });
}

}  // namespace expertscope
