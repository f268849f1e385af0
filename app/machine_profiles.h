// Machine profiles by name: those that ship, and those that `calibrate` measured for this user, which lie in
// data_folder("machines"). A calibrated profile is named after its GPU and the CPU threads it was measured with.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/machines/profile.h"
#include "engine/observer.h"

namespace expertscope {

// "NVIDIA H200", 16 -> "nvidia-h200-16-threads".
std::string calibrated_name(const std::string& gpu, int threads);
// Where `calibrate` leaves it and runs look for it.
std::string calibrated_path(const std::string& gpu, int threads);

std::vector<std::string> own_profiles();  // names, sorted

// A shipped profile, else one of the user's own, else a file (contains '/' or ends in .json). InputError lists what
// there is.
MachineProfile find_profile(const std::string& name_or_path);

// The profile of "emulated:PROFILE", as --machine takes it. InputError names the option.
MachineProfile emulated_profile(const std::string& machine);

// What a session of a real GPU predicts with.
struct Calibration {
  std::optional<MachineProfile> profile;  // nothing: the machine's own quick values
  HealthNote note;                        // which it is, and why
};
Calibration find_calibration(const std::string& gpu, int threads);

}  // namespace expertscope
