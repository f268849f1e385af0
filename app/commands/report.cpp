#include "app/commands/report.h"

#include <memory>

#include "app/summary.h"
#include "profiler/report.h"
#include "profiler/trace.h"
#include "storage/reader.h"

namespace expertscope {
namespace {

int show_report(const std::string& path, bool json) {
  Trace trace;
  trace.append(SessionReader(path).read_all());
  const nlohmann::ordered_json report = make_report(trace);
  if (json)
    print_json(report);
  else
    print(path + "\n" + summary_of(report));
  return kExitDone;
}

}  // namespace

void add_report(CLI::App& program, Action& action) {
  struct Options {
    std::string file;
    bool json = false;
  };
  const auto options = std::make_shared<Options>();
  CLI::App* command =
      program.add_subcommand("report", "Headline numbers of a session, also of one that is still being written");
  command->add_option("FILE", options->file, "Session file")->required();
  command->add_flag("--json", options->json, "The same JSON as capture's");
  command->callback([&action, options] { action = [options] { return show_report(options->file, options->json); }; });
}

}  // namespace expertscope
