// A machine in modelled time: the arithmetic is real (it runs on the CPU and gives real tokens), the time comes from a
// discrete-event simulation of lanes with the rates of a machine profile and the sizes of a cost shape. The same calls
// give the same times and the same values on every x86-64-v3 CPU and for every number of threads.
#pragma once

#include <memory>
#include <optional>

#include "engine/machine.h"
#include "engine/machines/cost_shape.h"
#include "engine/machines/profile.h"
#include "engine/model/model_description.h"

namespace expertscope {

class Model;
class Arithmetic;

// Shapes of the model that the machine runs; taken from the model, or from a session in replay.
struct RunShape {
  int layers = 0, experts = 0, top_k = 0;
  int context = 0;
  int max_step_tokens = 0;
  std::optional<std::int64_t> host_bytes{};  // for experts; what does not fit is read from storage. None: all fit
};

RunShape run_shape(const ModelDescription&, int max_step_tokens);

// `arithmetic` nullptr: the arithmetic is switched off (replay) and routes must be given. Both pointers outlive the
// machine.
std::unique_ptr<Machine> make_emulated_machine(const MachineProfile&, const CostShape&, const RunShape&,
                                               const Model* model, Arithmetic* arithmetic);

}  // namespace expertscope
