#include "engine/ids.h"

#include <array>

namespace expertscope {
namespace {

template <std::size_t N, typename E>
std::string_view pick(const std::array<std::string_view, N>& names, E value) {
  const auto i = static_cast<std::size_t>(value);
  return i < N ? names[i] : "?";  // values may come from a file
}

}  // namespace

std::string_view name(Phase v) {
  return pick(std::to_array<std::string_view>({"prefill", "decode"}), v);
}

std::string_view name(Lane v) {
  return pick(std::to_array<std::string_view>({"host", "gpu", "h2d", "d2h", "cpu", "storage"}), v);
}

std::string_view name(WorkKind v) {
  return pick(std::to_array<std::string_view>({"embed", "attention", "router", "expert", "combine", "head",
                                               "routing_sync", "policy", "sampling", "wait_demand", "wait_prefetch",
                                               "wait_placement", "wait_activation"}),
              v);
}

std::string_view name(CopyReason v) {
  return pick(std::to_array<std::string_view>({"demand", "promotion", "prefetch", "placement", "activation", "input"}),
              v);
}

std::string_view name(DemandState v) {
  return pick(std::to_array<std::string_view>({"hit", "late", "miss"}), v);
}

std::string_view name(Outcome v) {
  return pick(
      std::to_array<std::string_view>({"gpu", "fetched", "streamed", "cpu", "cpu_early", "skipped", "substituted"}), v);
}

std::string_view name(Precision v) {
  return pick(std::to_array<std::string_view>({"native", "int8", "int4", "int2"}), v);
}

std::string_view name(Label v) {
  return pick(std::to_array<std::string_view>({"MEASURED", "ESTIMATED", "SIMULATED"}), v);
}

}  // namespace expertscope
