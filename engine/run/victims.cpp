#include "engine/run/victims.h"

#include <algorithm>

namespace expertscope {

void Victims::begin(std::uint64_t plan) {
  plan_ = plan;
  left_some_out_ = false;
  kept_.clear();
}

void Victims::keep(const Victim& v) {
  kept_.insert(std::ranges::find_if(kept_, [&](const Victim& k) { return k < v; }), v);
  if (kept_.size() <= kMostKept) return;
  kept_.erase(kept_.begin());
  left_some_out_ = true;
}

}  // namespace expertscope
