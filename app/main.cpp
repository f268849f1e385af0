// ExpertScope from the top: the command line picks a command, each command puts its parts together in its own file.
#include <exception>
#include <new>
#include <string>

#include "app/commands/calibrate.h"
#include "app/commands/capture.h"
#include "app/commands/command.h"
#include "app/commands/info.h"
#include "app/commands/later.h"
#include "app/commands/learn.h"
#include "app/commands/machines.h"
#include "app/commands/open.h"
#include "app/commands/policies.h"
#include "app/commands/replay.h"
#include "app/commands/report.h"
#include "app/commands/synth.h"
#include "app/commands/workbench.h"
#include "app/stop_signal.h"
#include "engine/error.h"

namespace expertscope {
namespace {

std::string chosen_command(const CLI::App& program) {
  const auto commands = program.get_subcommands();
  return commands.empty() ? "" : commands.front()->get_name();
}

// "expertscope lokk": CLI11 would call it an unexpected argument.
void refuse_unknown_command(const CLI::App& program, int argc, char** argv) {
  if (argc < 2 || argv[1][0] == '-' || argv[1][0] == '\0') return;
  std::string known;
  for (const CLI::App* command : program.get_subcommands({})) {
    if (command->get_name() == argv[1]) return;
    known += (known.empty() ? "" : ", ") + command->get_name();
  }
  throw InputError(std::string("there is no command '") + argv[1] + "'; the commands are " + known);
}

// Options before a command belong to the workbench; nothing is ignored in silence.
void refuse_stray_options(const CLI::App& program) {
  if (program.get_subcommands().empty()) return;
  for (const CLI::Option* option : program.get_options())
    if (option->count() > 0) throw InputError(option->get_name() + ": write the options of a command after its name");
}

int run_program(int argc, char** argv) {
  CLI::App program{
      "ExpertScope: run, watch and compare the offloading of mixture-of-experts language models.\n"
      "Without a command: the workbench, live on the demo model.",
      "expertscope"};
  program.set_version_flag("--version", ES_VERSION);
  program.require_subcommand(0, 1);
  program.get_formatter()->column_width(34);
  Action action;
  add_workbench(program, action);
  add_open(program, action);
  add_capture(program, action);
  add_report(program, action);
  add_replay(program, action);
  add_info(program, action);
  add_policies(program, action);
  add_machines(program, action);
  add_synth(program, action);
  add_calibrate(program, action);
  add_learn(program, action);
  add_later(program, action);

  std::string command;
  try {
    refuse_unknown_command(program, argc, argv);
    try {
      program.parse(argc, argv);
    } catch (const CLI::CallForHelp&) {
      print(program.help());
      return kExitDone;
    } catch (const CLI::CallForVersion&) {
      print(std::string("expertscope ") + ES_VERSION + "\n");
      return kExitDone;
    } catch (const CLI::ParseError& error) {
      command = chosen_command(program);
      throw InputError(std::string(error.what()) + "; see `expertscope " + command + (command.empty() ? "" : " ") +
                       "--help`");
    }
    command = chosen_command(program);
    refuse_stray_options(program);
    return action();
  } catch (const InputError& error) {
    say(command, error.what());
    return kExitBadInput;
  } catch (const std::bad_alloc&) {
    say(command, "out of memory; use a smaller model or free some memory");
    return kExitFailed;
  } catch (const std::exception& error) {  // RunError, and what a library throws while running
    say(command, error.what());
    return kExitFailed;
  }
}

}  // namespace
}  // namespace expertscope

int main(int argc, char** argv) {
  expertscope::install_stop_signals();
  return expertscope::run_program(argc, argv);
}
