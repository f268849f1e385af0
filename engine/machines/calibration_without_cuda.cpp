#include "engine/error.h"
#include "engine/machines/calibration.h"

namespace expertscope {

MachineProfile calibrate_machine(const CalibrationRequest&, const std::function<void(const std::string&)>&) {
  throw InputError(
      "calibrate measures a CUDA device, and this program was built without CUDA; start from `expertscope machines "
      "rtx4090-pcie4 --json` instead");
}

}  // namespace expertscope
