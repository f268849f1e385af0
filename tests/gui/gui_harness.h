// What the window tests drive the workbench over: a made-up engine that answers at once, or the real one on its thread.
// The same tests run over both.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/command.h"
#include "engine/run/live_status.h"
#include "profiler/trace.h"
#include "views/hooks.h"

namespace expertscope {

class GuiHarness {
 public:
  virtual ~GuiHarness() = default;
  virtual const char* name() const = 0;
  virtual Hooks hooks() = 0;               // what the workbench is made with
  virtual void pump() = 0;                 // before each frame: take what the engine recorded
  virtual const Trace& trace() const = 0;  // what is shown
  virtual LiveStatus status() const = 0;
  virtual void send(const std::vector<Command>&) = 0;  // after each frame: what the user asked for
};

// Starts without a step, answers the first prompt with the sample session, and lists one saved session of 20 tokens.
std::unique_ptr<GuiHarness> make_sample_harness();
// The demo model on the default emulated machine, as fast as it computes, recording into `folder`, where it first saves
// a session of 20 tokens.
std::unique_ptr<GuiHarness> make_engine_harness(const std::string& folder);

inline constexpr std::uint32_t kSavedTokens = 20;

}  // namespace expertscope
