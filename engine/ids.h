// The words of the engine as types. Every record, table, view and report uses these and no others.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string_view>

namespace expertscope {

// Nanoseconds in the session's one clock: modelled time on an emulated machine, CLOCK_MONOTONIC since start on a real
// one.
using TimeNs = std::int64_t;

inline constexpr std::uint16_t kNone16 = 0xffff;  // "no layer", "no expert", "no slot"

struct ExpertId {
  std::uint16_t layer = 0;
  std::uint16_t expert = 0;
  auto operator<=>(const ExpertId&) const = default;
};

enum class Phase : std::uint8_t { prefill, decode };

// Lanes work is queued on. `device` beside it numbers the GPUs; host, cpu and storage exist once.
enum class Lane : std::uint8_t { host, gpu, h2d, d2h, cpu, storage };
inline constexpr int kLaneKinds = 6;

// What a unit of work or a wait was. The wait_* kinds are exposed waits of the lane they are recorded on: it had work,
// but the work needed a copy that had not arrived.
enum class WorkKind : std::uint8_t {
  embed,
  attention,
  router,
  expert,
  combine,
  head,  // on a GPU lane, expert also on the CPU lane
  routing_sync,
  policy,
  sampling,  // on the host lane
  wait_demand,
  wait_prefetch,
  wait_placement,
  wait_activation,  // on a GPU lane
};
inline constexpr int kWorkKinds = 13;

// Why bytes crossed a link. The first four are the reasons of an expert copy; the last two carry no expert weights.
enum class CopyReason : std::uint8_t { demand, promotion, prefetch, placement, activation, input };
inline constexpr int kCopyReasons = 6;
constexpr bool is_expert_copy(CopyReason r) {
  return r <= CopyReason::placement;
}

// The exposed wait of a lane for such a copy.
constexpr WorkKind waiting_for(CopyReason reason) {
  switch (reason) {
    case CopyReason::demand:
      return WorkKind::wait_demand;
    case CopyReason::prefetch:
    case CopyReason::promotion:
      return WorkKind::wait_prefetch;
    case CopyReason::placement:
      return WorkKind::wait_placement;
    default:
      return WorkKind::wait_activation;
  }
}

enum class DemandState : std::uint8_t { hit, late, miss };
enum class Outcome : std::uint8_t { gpu, fetched, streamed, cpu, cpu_early, skipped, substituted };
inline constexpr int kOutcomes = 7;
enum class Precision : std::uint8_t { native, int8, int4, int2 };
inline constexpr std::array kPrecisions = {Precision::native, Precision::int8, Precision::int4, Precision::int2};
enum class Label : std::uint8_t { measured, estimated, simulated };

std::string_view name(Phase);
std::string_view name(Lane);
std::string_view name(WorkKind);
std::string_view name(CopyReason);
std::string_view name(DemandState);
std::string_view name(Outcome);
std::string_view name(Precision);
std::string_view name(Label);  // "MEASURED", "ESTIMATED", "SIMULATED"

}  // namespace expertscope
