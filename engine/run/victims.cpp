#include "engine/run/victims.h"

#include <algorithm>
#include <array>

namespace expertscope {

void Victims::begin(std::uint64_t plan, std::span<const double> scores) {
  const double low = begun(plan) ? kNoLimit : low_score(scores);
  plan_ = plan;
  left_some_out_ = low < kNoLimit;
  kept_.clear();
  constexpr std::uint64_t kNewest = std::numeric_limits<std::uint64_t>::max();
  const bool all = low == kNoLimit;
  set_edge(
      {.held = all ? std::numeric_limits<int>::max() : 0, .score = low, .last_use = kNewest, .id = {kNone16, kNone16}});
}

void Victims::set_edge(const Victim& edge) {
  edge_ = edge;
  limit_ = edge.held == 0 ? edge.score : kNoLimit;
}

// A score that as many as are kept do not exceed, and not many more: one in each of the groups with the lowest minima.
double Victims::low_score(std::span<const double> scores) {
  std::array<double, 40> minima{};  // of groups of every 40th
  if (scores.size() < 8 * minima.size()) return kNoLimit;
  std::ranges::copy(scores.first(minima.size()), minima.begin());
  for (std::span<const double> rest = scores; rest.size() >= minima.size(); rest = rest.subspan(minima.size())) {
    for (std::size_t g = 0; g < minima.size(); ++g) minima[g] = rest[g] < minima[g] ? rest[g] : minima[g];
  }
  const auto last = minima.begin() + (kMostKept - 1);
  std::nth_element(minima.begin(), last, minima.end());
  return *last;
}

void Victims::keep(const Victim& v) {
  const auto place = std::ranges::find_if(kept_, [&](const Victim& k) { return k < v; });
  if (kept_.size() < kMostKept) {
    kept_.insert(place, v);
    return;
  }
  left_some_out_ = true;
  if (place != kept_.begin()) {  // the last to leave makes room
    std::move(kept_.begin() + 1, place, kept_.begin());
    *(place - 1) = v;
  }
  set_edge(kept_.front());
}

}  // namespace expertscope
