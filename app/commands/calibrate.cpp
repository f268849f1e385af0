#include "app/commands/calibrate.h"

#include <filesystem>
#include <memory>

#include <fmt/format.h>
#include <unistd.h>

#include "app/data_folder.h"
#include "app/engine_rig.h"
#include "app/machine_profiles.h"
#include "app/operation_runs.h"
#include "app/options.h"
#include "app/whole_file.h"
#include "engine/error.h"
#include "engine/machines/calibration.h"
#include "engine/machines/cuda_available.h"
#include "engine/machines/cuda_machine.h"

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
  const CudaStatus cuda = cuda_status();
  if (cuda.state != CudaState::usable)
    throw InputError(fmt::format(
        "there is no usable CUDA device: {}, or start from `expertscope machines rtx4090-pcie4 --json`", cuda.text));
  const int threads = options.threads > 0 ? options.threads : core_count();
  const std::filesystem::path out = !options.out.empty()
                                        ? std::filesystem::path(options.out)
                                        : make_data_folder("machines") / (calibrated_name(cuda.gpu, threads) + ".json");
  const bool terminal = isatty(STDERR_FILENO) != 0;
  const auto said = [terminal](const std::string& what) {
    if (terminal) say("calibrate", what);
  };
  MachineProfile profile =
      calibrate_machine({.threads = threads, .repeats = options.repeats, .scratch = folder_of(out, "--out")}, said);
  time_operations({.threads = threads,
                   .scratch = folder_of(out, "--out"),
                   .shape = large_shape(),
                   .make_machine =
                       [](const Model& model, ThreadPool& pool) {
                         return make_cuda_machine(model, pool, {.max_step_tokens = kOperationRunsChunk});
                       },
                   .said = said},
                  profile);
  profile.source += "; " + cuda_build_description() + "; " + utc_now().substr(0, 10);
  write_whole(out, to_json(profile) + "\n");
  std::string text;
  for (const Measurement& m : profile.measured)
    text += fmt::format("  {:58} {:>14}  ({} to {})\n", m.name, value_text(m, m.median), value_text(m, m.low),
                        value_text(m, m.high));
  text += out.string() + "\n";
  if (options.out.empty())
    text += fmt::format(
        "Runs on this GPU with {} CPU threads predict with it from now on; emulate it with --machine "
        "emulated:{}\n",
        threads, out.stem().string());
  else
    text +=
        fmt::format("Use it with --machine emulated:{}\n", out.has_parent_path() ? out.string() : "./" + out.string());
  print(text);
  return kExitDone;
}

}  // namespace

void add_calibrate(CLI::App& program, Action& action) {
  const auto options = std::make_shared<Options>();
  CLI::App* command =
      program.add_subcommand("calibrate", "Measure this machine's GPU, link, host memory and storage into a profile");
  command->add_option("-o,--out", options->out, "Profile to write, a JSON file [where later runs on this GPU find it]")
      ->type_name("PROFILE.json");
  command->add_option("--threads", options->threads, "CPU threads for experts [all cores]")->check(CLI::Range(1, 1024));
  command->add_option("--repeats", options->repeats, "Times that each number is measured [5]")
      ->check(CLI::Range(3, 101));
  command->callback([&action, options] { action = [options] { return calibrate(*options); }; });
}

}  // namespace expertscope
