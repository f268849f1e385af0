#include "app/commands/calibrate.h"

#include <filesystem>
#include <fstream>
#include <memory>

#include <fmt/format.h>
#include <unistd.h>

#include "app/options.h"
#include "engine/error.h"
#include "engine/machines/calibration.h"

namespace expertscope {
namespace {

struct Options {
  std::string out;
  int threads = 0, repeats = 5;
};

// "54.9 GB/s", "3.21 us"
std::string value_text(const Measurement& m, double value) {
  if (m.unit == "s") return fmt::format("{:.3g} us", value * 1e6);
  return fmt::format("{:.4g} G{}", value / 1e9, m.unit);
}

int calibrate(const Options& options) {
  const std::filesystem::path out = options.out;
  const std::filesystem::path folder = out.has_parent_path() ? out.parent_path() : std::filesystem::path(".");
  if (!std::filesystem::is_directory(folder))
    throw InputError(fmt::format("--out: there is no folder {}; make it first", folder.string()));
  const bool terminal = isatty(STDERR_FILENO) != 0;
  const MachineProfile profile = calibrate_machine(
      {.threads = options.threads > 0 ? options.threads : core_count(), .repeats = options.repeats, .scratch = folder},
      [&](const std::string& what) {
        if (terminal) say("calibrate", what);
      });
  std::ofstream file(out, std::ios::binary | std::ios::trunc);
  file << to_json(profile) << "\n";
  if (!file.flush()) throw RunError(out.string() + ": cannot be written; check that the disk has room");
  std::string text;
  for (const Measurement& m : profile.measured)
    text += fmt::format("  {:52} {:>14}  ({} to {})\n", m.name, value_text(m, m.median), value_text(m, m.low),
                        value_text(m, m.high));
  print(text + fmt::format("{}\nUse it with --machine emulated:{}\n", out.string(),
                           out.has_parent_path() ? out.string() : "./" + out.string()));
  return kExitDone;
}

}  // namespace

void add_calibrate(CLI::App& program, Action& action) {
  const auto options = std::make_shared<Options>();
  CLI::App* command =
      program.add_subcommand("calibrate", "Measure this machine's GPU, link, host memory and storage into a profile");
  command->add_option("--out", options->out, "Profile to write, a JSON file")->required()->type_name("PROFILE.json");
  command->add_option("--threads", options->threads, "CPU threads for experts [all cores]")->check(CLI::Range(1, 1024));
  command->add_option("--repeats", options->repeats, "Times that each number is measured [5]")
      ->check(CLI::Range(3, 101));
  command->callback([&action, options] { action = [options] { return calibrate(*options); }; });
}

}  // namespace expertscope
