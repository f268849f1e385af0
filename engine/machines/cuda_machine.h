// A machine with a real GPU: the contract of engine/machine.h with CUDA streams, page-locked host memory and own
// kernels. Experts on the CPU run on the caller's thread pool over the same blobs.
//
// Times are the device's own: kernels stamp their operations with %globaltimer, copies are timed by CUDA events, and
// both are told in session time (see cuda/device_clock.h).
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "engine/machine.h"
#include "engine/machines/profile.h"
#include "engine/model/thread_pool.h"

namespace expertscope {

class Model;

struct CudaOptions {
  int device = 0;
  int max_step_tokens = 512;
  std::optional<std::int64_t> host_bytes = {};  // of experts in host memory, for a model whose experts stay in the file
  std::optional<MachineProfile> profile =
      {};  // what its sessions say of it; nothing: quick values, see device_profile.h
};

// Takes device memory for everything but experts, and page-locks the model's host store, or host memory for as many
// experts as host_bytes hold, which are read from the file as they are wanted. InputError when there is no usable
// device (with what is missing) or the model cannot run on it; RunError when the device fails. Model and pool outlive
// the machine.
std::unique_ptr<Machine> make_cuda_machine(const Model&, ThreadPool&, const CudaOptions&);

}  // namespace expertscope
