#include "app/machine_profiles.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <system_error>

#include <fmt/format.h>

#include "app/data_folder.h"
#include "engine/error.h"

namespace fs = std::filesystem;

namespace expertscope {
namespace {

constexpr const char* kFolder = "machines";

fs::path path_of(const std::string& name) {
  return data_folder(kFolder) / (name + ".json");
}

bool is_path(const std::string& text) {
  return text.find('/') != std::string::npos || fs::path(text).extension() == ".json";
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::ranges::find(names, name) != names.end();
}

Calibration quick_values(const std::string& why) {
  return {.profile = {},
          .note = {"machine.not_calibrated", Severity::info, 1,
                   fmt::format("Predictions and replays of this session use quick values for this machine: {}; "
                               "`expertscope calibrate` measures it for later runs.",
                               why)}};
}

}  // namespace

std::string calibrated_name(const std::string& gpu, int threads) {
  std::string name;
  for (const char c : gpu) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0)
      name += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    else if (!name.empty() && name.back() != '-')
      name += '-';
  }
  if (!name.empty() && name.back() != '-') name += '-';
  return fmt::format("{}{}-threads", name, threads);
}

std::string calibrated_path(const std::string& gpu, int threads) {
  return path_of(calibrated_name(gpu, threads)).string();
}

std::vector<std::string> own_profiles() {
  std::vector<std::string> names;
  std::error_code none;  // no folder: nothing was calibrated
  for (const fs::directory_entry& entry : fs::directory_iterator(data_folder(kFolder), none))
    if (entry.path().extension() == ".json") names.push_back(entry.path().stem().string());
  std::ranges::sort(names);
  return names;
}

MachineProfile find_profile(const std::string& name_or_path) {
  if (is_path(name_or_path)) return load_profile(name_or_path);
  const std::vector<std::string> shipped = shipped_profiles(), own = own_profiles();
  if (contains(shipped, name_or_path)) return load_profile(name_or_path);
  if (contains(own, name_or_path)) return load_profile(path_of(name_or_path).string());
  throw InputError(fmt::format("machine profile '{}' is not known: choose one of {}{}{}, or give the path of a profile",
                               name_or_path, fmt::join(shipped, ", "),
                               own.empty() ? "" : ", or of your own: ", fmt::join(own, ", ")));
}

MachineProfile emulated_profile(const std::string& machine) {
  constexpr std::string_view prefix = "emulated:";
  if (!machine.starts_with(prefix) || machine.size() == prefix.size())
    throw InputError(fmt::format(
        "--machine: '{}' is not emulated:PROFILE; see `expertscope machines` for the profiles there are", machine));
  try {
    return find_profile(machine.substr(prefix.size()));
  } catch (const InputError& error) {
    throw InputError(std::string("--machine: ") + error.what());
  }
}

Calibration find_calibration(const std::string& gpu, int threads) {
  const std::string path = calibrated_path(gpu, threads);
  std::error_code error;
  if (!fs::exists(path, error)) return quick_values(fmt::format("there is no {}", path));
  try {
    MachineProfile profile = load_profile(path);
    if (profile.gpus.size() > 1)
      return quick_values(fmt::format("{} is of {} GPUs, and a run on CUDA uses one", path, profile.gpus.size()));
    if (profile.gpus[0].name != gpu || profile.host.threads != threads)
      return quick_values(fmt::format("{} is of {} with {} CPU threads, this is {} with {}", path, profile.gpus[0].name,
                                      profile.host.threads, gpu, threads));
    HealthNote note{
        "machine.calibrated", Severity::info, 1,
        fmt::format("Predictions and replays of this session use the profile that calibrate measured: {}.", path)};
    return {.profile = std::move(profile), .note = std::move(note)};
  } catch (const InputError& problem) {
    Calibration quick = quick_values(problem.what());
    quick.note.severity = Severity::warning;
    return quick;
  }
}

}  // namespace expertscope
