// Opens a session file as untrusted input, whole or while another process is still writing it.
#pragma once

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "engine/error.h"
#include "engine/run/replay.h"
#include "profiler/batch.h"

namespace expertscope {

enum class Refusal : std::uint8_t { not_a_session, newer, too_old, damaged, cannot_open };

// Why a session cannot be read, in one sentence that names the file.
class SessionRefused : public InputError {
 public:
  SessionRefused(Refusal why, const std::string& message) : InputError(message), why_(why) {}
  Refusal why() const { return why_; }

 private:
  Refusal why_;
};

// One thread at a time.
class SessionReader {
 public:
  // SessionRefused when the file is not a session, newer, too old, damaged, or cannot be opened.
  explicit SessionReader(const std::string& path);
  ~SessionReader();
  SessionReader(SessionReader&&) noexcept;
  SessionReader& operator=(SessionReader&&) noexcept;

  // Everything that is committed, without the routes. Rows that make no sense are skipped and counted in the batch's
  // health ("session.rows_skipped"). SessionRefused (damaged) when a page cannot be read.
  Batch read_all();
  // What was committed since the last read_all() or poll(); an empty batch when nothing was. Cheap when nothing
  // changed.
  Batch poll();

  // For replay: what the session says about its routing, routes ordered by step, layer, token. Up to the first step
  // that is not whole, which a killed run may leave at its end.
  RecordedRun read_recorded_run();
  std::vector<RouteRecord> read_routes();

  const std::string& path() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace expertscope
