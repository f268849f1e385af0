// Measures this machine into a profile: the link by size, alone and while the CPU reads; host memory by threads, read
// as CPU experts read it; device memory; the fixed costs of operations, copies and of telling the host.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "engine/machines/profile.h"

namespace expertscope {

struct CalibrationRequest {
  int threads = 1;                // of CPU experts
  int repeats = 5;                // of every measurement; its median is taken
  std::filesystem::path scratch;  // a folder on the storage to measure; 256 MB are written there and removed
};

// Takes half a minute, 1.5 GB of host memory and 1 GB on the device. `said` hears what is being measured. InputError
// without a usable device, RunError when it fails. Any thread.
MachineProfile calibrate_machine(const CalibrationRequest&, const std::function<void(const std::string&)>& said);

}  // namespace expertscope
