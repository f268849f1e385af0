#include "profiler/batch.h"

namespace expertscope {

bool Batch::empty() const {
  return !start && steps.empty() && works.empty() && copies.empty() && demands.empty() && residency.empty() &&
         tokens.empty() && routes.empty() && epochs.empty() && prompts.empty() && marks.empty() && health.empty() &&
         pieces.empty() && logits.empty() && quality.empty() && gpu.empty() && gpu_totals == GpuTotals() &&
         wall.empty() && !ended;
}

}  // namespace expertscope
