// What a window shows about the running engine beyond the trace. Copied out under a lock a few times a second; never
// blocks the engine.
#pragma once

#include <cstdint>
#include <string>

#include "engine/ids.h"

namespace expertscope {

struct LiveStatus {
  bool live = false;     // false: an opened session, nothing to command
  bool running = false;  // tokens are flowing (not paused, a prompt is in work)
  bool paused = false;
  bool ended = false;  // the run was stopped or failed
  std::string session_path;
  std::string policy_spec;
  double cache_ratio = 0;
  std::int64_t cache_bytes = 0;
  std::int64_t cache_bytes_at_ratio_1 = 0;
  std::uint32_t slots = 0, slots_at_ratio_1 = 0;
  int layers = 0, experts = 0;
  double speed = 1;  // modelled seconds per wall second; 0 = as fast as it computes
  bool emulated = true;
  std::uint32_t generated = 0;  // tokens so far, whole run
  std::uint32_t prompts_waiting = 0;
  std::uint64_t commands_applied = 0;  // of those sent
  std::string last_change;             // "policy on-demand -> lfu, from token 212"
  std::string error;                   // a refused command or a failed run, for people; "" when none
};

}  // namespace expertscope
