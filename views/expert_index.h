// What happened to every expert in any range of time. Running sums are kept at every 65,536th record, so that a range
// costs two look-ups and at most that many records at each end, whatever the session's length. Equal to expert_totals()
// of the profiler.
#pragma once

#include <cstdint>
#include <vector>

#include "profiler/metrics.h"
#include "profiler/trace.h"

namespace expertscope {

struct ExpertCell {
  std::uint64_t demands = 0, picks = 0, hits = 0, late = 0, misses = 0, cpu = 0;
  std::uint64_t skipped = 0, substituted = 0, early = 0, low_precision = 0;  // what inexact policies did to its demands
  std::int64_t bytes = 0;                                                    // of its copies, host to device
  TimeNs resident_ns = 0;  // time within the range during which a slot held it
  bool resident = false;   // at the end of the range
};

// One cell for each (layer, expert): cells[layer * experts + expert].
struct ExpertGrid {
  int layers = 0, experts = 0;
  std::vector<ExpertCell> cells;
  const ExpertCell& at(int layer, int expert) const {
    return cells[static_cast<std::size_t>(layer * experts + expert)];
  }
};

// What happened to one expert in one stretch of its history.
struct ExpertHistoryBin {
  TimeRange range;
  std::uint64_t hits = 0, late = 0, misses = 0;
  std::int64_t bytes = 0;
  double resident_share = 0;
};

class ExpertIndex {
 public:
  void update(const Trace&);
  ExpertGrid totals(const Trace&, TimeRange) const;
  // The range in `bins` stretches of equal length.
  std::vector<ExpertHistoryBin> history(const Trace&, ExpertId, TimeRange, int bins) const;

 private:
  struct DemandSums {
    std::uint32_t demands = 0, picks = 0, hits = 0, late = 0, misses = 0, cpu = 0;
    std::uint32_t skipped = 0, substituted = 0, early = 0, low_precision = 0;
    void add(const DemandRecord&);
  };
  struct Residency {
    TimeNs resident_ns = 0, since_ns = 0;
    std::uint32_t copies = 0;  // slots that hold it, over all devices
    void apply(const ResidencyRecord&);
    TimeNs until(TimeNs t) const { return resident_ns + (copies > 0 ? t - since_ns : 0); }
  };
  template <class Cell>
  struct Checkpoints {
    std::vector<Cell> now;
    std::vector<std::vector<Cell>> saved;  // saved[i]: before record i * kSpacing
    std::size_t next = 0;
  };

  std::size_t cell_of(std::uint16_t layer, std::uint16_t expert) const;  // cells() when it is none
  template <class Cell, class Records, class Add>
  void extend(Checkpoints<Cell>&, const Records&, Add);
  template <class Cell, class Records, class Add>
  std::vector<Cell> before(const Checkpoints<Cell>&, const Records&, std::size_t record, Add) const;

  template <class Cell, class Records, class Add>
  Cell before(const Checkpoints<Cell>&, const Records&, std::size_t record, std::size_t cell, Add) const;

  int layers_ = 0, experts_ = 0;
  Checkpoints<DemandSums> demands_;
  Checkpoints<std::int64_t> copies_;
  Checkpoints<Residency> residency_;
};

}  // namespace expertscope
