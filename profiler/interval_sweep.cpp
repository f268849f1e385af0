#include "profiler/interval_sweep.h"

namespace expertscope {
namespace {

constexpr std::uint16_t bit(Activity a) {
  return static_cast<std::uint16_t>(a);
}

}  // namespace

std::uint16_t activities_of(Lane lane, WorkKind kind) {
  switch (kind) {
    case WorkKind::wait_demand:
      return bit(Activity::demand_wait);
    case WorkKind::wait_prefetch:
    case WorkKind::wait_placement:
      return bit(Activity::prefetch_wait);
    case WorkKind::wait_activation:
    case WorkKind::routing_sync:
      return bit(Activity::routing_sync);
    case WorkKind::policy:
      return bit(Activity::policy);
    case WorkKind::sampling:
      return bit(Activity::sampling);
    case WorkKind::embed:
    case WorkKind::attention:
    case WorkKind::router:
    case WorkKind::expert:
    case WorkKind::combine:
    case WorkKind::head:
      break;
  }
  if (lane == Lane::gpu) return bit(Activity::gpu_kernel);
  return lane == Lane::cpu ? bit(Activity::cpu_expert) : 0;
}

std::uint16_t activities_of(Lane lane, CopyReason reason) {
  if (lane != Lane::h2d || !is_expert_copy(reason)) return 0;
  return static_cast<std::uint16_t>(bit(Activity::expert_copy) |
                                    (reason == CopyReason::demand ? bit(Activity::demand_copy) : 0));
}

}  // namespace expertscope
