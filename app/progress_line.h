// One line on standard error that tells how far a run is; shown on a terminal, never in a pipe.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "profiler/batch.h"

namespace expertscope {

class ProgressLine {
 public:
  // `planned_tokens` 0: not known.
  ProgressLine(std::uint64_t planned_tokens, bool shown);
  ~ProgressLine();  // takes the line away

  void add(const Batch&);

  // What the line says now: tokens, modelled tokens/s and hit rate of decode.
  std::string text() const;

 private:
  void show();

  const std::uint64_t planned_;
  const bool shown_;
  bool visible_ = false;
  std::chrono::steady_clock::time_point next_;
  std::string label_;
  std::uint64_t generated_ = 0, forwarded_ = 0, decoded_ = 0, demands_ = 0, hits_ = 0;
  TimeNs decode_ns_ = 0;
};

bool stderr_is_terminal();

}  // namespace expertscope
