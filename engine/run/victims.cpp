#include "engine/run/victims.h"

#include <algorithm>

namespace expertscope {

void Victims::begin(std::uint64_t plan) {
  plan_ = plan;
  left_some_out_ = false;
  limit_ = kNoLimit;
  kept_.clear();
}

void Victims::keep(const Victim& v) {
  const auto place = std::ranges::find_if(kept_, [&](const Victim& k) { return k < v; });
  if (kept_.size() < kMostKept) {
    kept_.insert(place, v);
  } else {  // the last to leave makes room
    std::move(kept_.begin() + 1, place, kept_.begin());
    *(place - 1) = v;
    left_some_out_ = true;
  }
  const bool full = left_some_out_ || kept_.size() == kMostKept;
  limit_ = full && kept_.front().held == 0 ? kept_.front().score : kNoLimit;
}

}  // namespace expertscope
