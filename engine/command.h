// What the user, a script or (later) another process asks of a running engine. Plain records: applied between tokens.
#pragma once

#include <cstdint>
#include <string>

namespace expertscope {

enum class CommandKind : std::uint8_t {
  set_policy,       // text = spec: preset, components, parameters
  set_component,    // text = "evictor=lfu"
  set_parameter,    // text = "prefetcher.depth", value
  set_cache_ratio,  // value 0..1
  reset_cache,      // empties the cache; starts a new epoch
  submit_prompt,    // text, value = tokens to generate
  pause,
  resume,
  step_token,  // while paused: one token
  set_speed,   // emulated machine: modelled seconds per wall second; 0 = as fast as it computes
  mark,        // text
  stop,        // end the run and close the session
};

struct Command {
  CommandKind kind = CommandKind::pause;
  std::string text;
  double value = 0;
  std::string source = "user";  // "user", "script"
};

}  // namespace expertscope
