// What inexact policies did: counts for every step, and which CPU experts were computed a layer early. Extended with
// the trace.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "profiler/trace.h"

namespace expertscope {

// Demands of a step that did not run as their router and the model's file would have it. One demand may be in two.
struct InexactCounts {
  std::uint32_t skipped = 0, substituted = 0;
  std::uint32_t early = 0;          // computed on the CPU, on the input of the layer before
  std::uint32_t low_precision = 0;  // ran below native precision
  std::uint32_t revised = 0;        // a gate changed the weights or dropped some of its picks
  std::uint32_t early_unasked = 0;  // CPU experts that were computed early and that the router did not choose
  std::uint32_t left_out() const { return skipped + substituted; }
  bool any() const { return skipped || substituted || early || low_precision || revised || early_unasked; }
  void add(const DemandRecord&);
  InexactCounts& operator+=(const InexactCounts&);
};
// "3 skipped, 12 low precision": what is not 0, "" when nothing is.
std::string inexact_text(const InexactCounts&);

// A CPU expert's work: computed when its layer's router had spoken, or a layer early, for a demand or for none.
enum class EarlyWork : std::uint8_t { none, demanded, unasked };

class InexactIndex {
 public:
  struct Early {
    std::uint32_t record = 0;  // index into Trace::works
    bool demanded = false;     // the router chose it after all
  };

  void update(const Trace&);
  // By step number; nothing for one that is not complete.
  InexactCounts of(std::uint32_t step) const { return step < by_step_.size() ? by_step_[step] : InexactCounts{}; }
  const InexactCounts& total() const { return total_; }
  // By index into Trace::works. O(log early).
  EarlyWork early(std::uint32_t work) const;
  std::span<const Early> early() const { return early_; }  // by growing record

 private:
  void add_step(const Trace&, const StepRecord&);

  std::vector<InexactCounts> by_step_;
  InexactCounts total_;
  std::vector<Early> early_;
  std::vector<std::uint8_t> outcomes_;  // of one step's demands by (layer, expert); kNoDemand between steps
  std::size_t next_step_ = 0;
};

}  // namespace expertscope
