// The layer x expert heatmap: what a cell's number is, how numbers become colours, and where cells and margins lie.
// Pure.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/ids.h"
#include "views/expert_index.h"

namespace expertscope {

enum class HeatQuantity : std::uint8_t {
  activations,
  hits,
  misses,
  hit_rate,
  residency,
  bytes,
  cpu_share,
  low_precision,
  left_out
};
inline constexpr int kHeatQuantities = 9;
const char* name(HeatQuantity);
const char* help(HeatQuantity);
bool is_share(HeatQuantity);  // its scale is 0 to 100 %, and margins are means
std::string heat_value(HeatQuantity, double value);

struct HeatValues {
  int layers = 0, experts = 0;
  std::vector<double> cells;                // layer by layer; NaN where a share has no denominator
  std::vector<double> by_layer, by_expert;  // totals, or the share over the whole row or column
  double max = 0, max_by_layer = 0, max_by_expert = 0, total = 0;
  double at(int layer, int expert) const { return cells[static_cast<std::size_t>(layer * experts + expert)]; }
};
HeatValues heat_values(const ExpertGrid&, HeatQuantity, TimeNs range_ns);

// Place on the colour scale, 0..1.
double heat_place(double value, double max, bool logarithmic);

struct HeatLayout {
  double x0 = 0, y0 = 0, cell_w = 0, cell_h = 0;  // of the cells
  double x1 = 0, y1 = 0;
  double right_x0 = 0, right_x1 = 0;    // margin: per layer
  double bottom_y0 = 0, bottom_y1 = 0;  // margin: per expert
  int layers = 0, experts = 0;
  int layer_labels_every = 1, expert_labels_every = 1;

  std::optional<ExpertId> cell_at(double x, double y) const;
};
struct HeatSizes {
  double left_labels = 26, top_labels = 18, margin = 40, gap = 6, label_height = 15, label_width = 20;
};
HeatLayout heatmap_layout(int layers, int experts, double x0, double y0, double x1, double y1, const HeatSizes&);

}  // namespace expertscope
