// What every view is given to draw from, and what it may answer with. A view owns its window's state and nothing else.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "engine/command.h"
#include "engine/run/live_status.h"
#include "profiler/trace.h"
#include "views/hooks.h"
#include "views/selection.h"
#include "views/step_sums.h"
#include "views/theme.h"
#include "views/trace_index.h"

namespace expertscope {

// Numbers in words and badges, refreshed five times a second so that they can be read.
struct LiveNumbers {
  StepSums recent;      // last 32 decoded tokens; of an opened session, all of them
  StepSums last_token;  // the last decode step
  std::uint64_t generated = 0;
  bool inexact = false;  // the policy in force may change the output, or a session's policies did
  std::array<TimeNs, kTimeParts> holds_back_parts{};  // of `recent`: what holds the tokens back does not flicker
  Severity worst_health = Severity::info;
  std::uint64_t health_notes = 0;  // that are worse than info
};

// A change that was asked for and that the engine has not said it applied.
struct PendingChange {
  std::string text;
  std::uint64_t command = 0;  // number of the command, from 1
};

struct ViewContext {
  const Trace& trace;
  const TraceIndex& index;
  const LiveStatus& status;
  const LiveNumbers& numbers;
  const Hooks& hooks;
  const std::vector<PendingChange>& pending;
  Selection& selection;
  Theme& theme;
  std::vector<Command>& commands;
  bool refresh_often = true;  // five times a second, live or not: what is costly may be computed again
  bool refresh = true;        // five times a second while live: numbers that people read may change now

  const Palette& colors() const { return theme.colors(); }
  TimeRange session() const { return {trace.begin_ns(), trace.end_ns()}; }
  bool empty() const { return !trace.started || trace.steps.empty(); }
  void send(CommandKind kind, std::string text = "", double value = 0) {
    commands.push_back({kind, std::move(text), value, "user"});
  }
};

}  // namespace expertscope
