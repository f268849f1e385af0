#include "profiler/cupti_activity.h"

namespace expertscope {

std::unique_ptr<CuptiActivity> CuptiActivity::start(const CuptiActivityOptions&) {
  throw CuptiUnavailable("cupti.not_built", "this program was built without CUDA, so it cannot record with CUPTI");
}

}  // namespace expertscope
