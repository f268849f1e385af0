// How well what CUPTI saw agrees with what the engine says. Pure functions.
#pragma once

#include <cstdint>
#include <vector>

#include "profiler/trace.h"

namespace expertscope {

struct CuptiNumbers {
  bool recorded = false;  // CUPTI took part in the session; nothing below means anything without
  std::uint64_t kernels = 0, joined_kernels = 0, copies = 0, joined_copies = 0;
  std::uint64_t dropped = 0;           // records that CUPTI lost
  std::int64_t expert_copy_bytes = 0;  // host to device, of calls that the engine tagged as expert copies
  std::int64_t engine_copy_bytes = 0;  // the same by the engine's own records
  bool bytes_are_comparable = false;   // the session has ended and nobody lost records
  bool bytes_are_equal() const { return expert_copy_bytes == engine_copy_bytes; }

  // Share of kernels and copies that are joined to a step, layer and reason. 1 when there are none.
  double joined_share() const {
    const std::uint64_t all = kernels + copies;
    return all ? static_cast<double>(joined_kernels + joined_copies) / static_cast<double>(all) : 1;
  }
};

CuptiNumbers cupti_numbers(const Trace&);

// Of expert copies that both know with the same bytes: how far the engine's begin or end lies from CUPTI's, whichever
// is further, and by how much the engine's middle comes later.
struct CuptiResidual {
  std::uint64_t copies = 0;
  TimeNs median_ns = 0, max_ns = 0, shift_median_ns = 0;
};
CuptiResidual cupti_residual(const Trace&);

// Notes for health about what the numbers say; empty when all is well or CUPTI did not record.
std::vector<HealthNote> cupti_notes(const Trace&);

}  // namespace expertscope
