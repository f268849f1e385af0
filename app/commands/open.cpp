#include "app/commands/open.h"

#include <filesystem>
#include <memory>

#include "app/window_loop.h"
#include "app/workbench_session.h"

namespace expertscope {
namespace {

int open_session(const std::string& path, const WindowRequest& request) {
  check_window_request(request);
  WorkbenchSession session(nullptr, std::filesystem::absolute(path).parent_path().string());
  session.open(path);
  const auto window = open_window(request);
  run_window(request, *window, session, 0);
  return kExitDone;
}

}  // namespace

void add_open(CLI::App& program, Action& action) {
  struct Options {
    std::string file;
    WindowRequest window;
  };
  const auto options = std::make_shared<Options>();
  CLI::App* command =
      program.add_subcommand("open", "The workbench on a saved session, or on one that is still being written");
  command->add_option("FILE", options->file, "Session file")->required();
  add_window_options(*command, options->window, false);
  command->callback(
      [&action, options] { action = [options] { return open_session(options->file, options->window); }; });
}

}  // namespace expertscope
