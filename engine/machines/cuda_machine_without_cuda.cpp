#include "engine/error.h"
#include "engine/machines/cuda_machine.h"

namespace expertscope {

std::unique_ptr<Machine> make_cuda_machine(const Model&, ThreadPool&, const CudaOptions&) {
  throw InputError(
      "machine cuda: this program was built without CUDA; build it where a CUDA toolkit is (./dev setup --cuda), or "
      "choose --machine emulated:PROFILE");
}

}  // namespace expertscope
