// Where a token's time went: one bar with the colours of its parts, and the numbers as rows.
#pragma once

#include <array>

#include "profiler/attribution.h"
#include "views/theme.h"

namespace expertscope {

struct PartStyle {
  Color color = 0;
  bool hatched = false;
};
PartStyle part_style(const Palette&, TimePart);

// The bar; hovering a part names it.
void part_bar(const Theme&, const std::array<TimeNs, kTimeParts>&, float width, float height);
// Name, time per token and share of each part; parts that are nothing are dimmed, and left out when `only_some`.
void part_rows(const Theme&, const std::array<TimeNs, kTimeParts>&, double tokens, bool only_some);

}  // namespace expertscope
