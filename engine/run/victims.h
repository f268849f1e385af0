// Who leaves a pool first. A layer's plan may ask a pool for many victims; the pool is looked through once, and the few
// that would leave first are kept in order until the plan is made.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "engine/ids.h"

namespace expertscope {

struct Victim {
  int held = 0;      // 0: held for no coming layer; else 1 for the farthest layer and more for nearer ones
  double score = 0;  // the evictor's keep score
  std::uint64_t last_use = 0;
  ExpertId id;

  // Leaves earlier; ties: older last use, then lower layer and expert.
  friend bool operator<(const Victim& a, const Victim& b) {
    if (a.held != b.held) return a.held < b.held;
    if (a.score != b.score) return a.score < b.score;
    return a.last_use != b.last_use ? a.last_use < b.last_use : a.id < b.id;
  }
};

class Victims {
 public:
  // Nothing is kept yet of a pool with these scores. At the first look for a plan those far above the lowest are left
  // out at once; at the next ones, which come when these few did not do, none.
  void begin(std::uint64_t plan, std::span<const double> scores);
  bool begun(std::uint64_t plan) const { return plan_ == plan; }

  // Whether an expert with that score leaves after all that are kept, held or not: it need not be offered.
  bool leaves_out(double score) const { return score > limit_; }
  void offer(const Victim& v) {
    if (edge_ < v) {
      left_some_out_ = true;
    } else {
      keep(v);
    }
  }

  bool empty() const { return kept_.empty(); }
  Victim take_first() {
    const Victim first = kept_.back();
    kept_.pop_back();
    return first;
  }
  // Some may not be kept: when it is empty, the pool must be looked through again.
  bool left_some_out() const { return left_some_out_; }

 private:
  static constexpr std::size_t kMostKept = 16;  // more than most layers evict
  static constexpr double kNoLimit = std::numeric_limits<double>::infinity();

  void keep(const Victim&);
  void set_edge(const Victim&);
  static double low_score(std::span<const double> scores);

  std::uint64_t plan_ = 0;
  bool left_some_out_ = false;
  Victim edge_;               // who leaves later than this one is left out
  double limit_ = kNoLimit;   // whose score is above it leaves later, held or not
  std::vector<Victim> kept_;  // who leaves first comes last
};

}  // namespace expertscope
