#include "views/heatmap_layout.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "views/format.h"

namespace expertscope {
namespace {

struct Fraction {
  double top = 0, bottom = 0;
  double value(bool share) const {
    return share ? (bottom > 0 ? top / bottom : std::numeric_limits<double>::quiet_NaN()) : top;
  }
};

Fraction fraction_of(HeatQuantity quantity, const ExpertCell& cell, TimeNs range_ns) {
  const auto demands = static_cast<double>(cell.demands);
  switch (quantity) {
    case HeatQuantity::activations:
      return {static_cast<double>(cell.picks), 1};
    case HeatQuantity::hits:
      return {static_cast<double>(cell.hits), 1};
    case HeatQuantity::misses:
      return {static_cast<double>(cell.misses), 1};
    case HeatQuantity::hit_rate:
      return {static_cast<double>(cell.hits), demands};
    case HeatQuantity::residency:
      return {static_cast<double>(cell.resident_ns), static_cast<double>(range_ns)};
    case HeatQuantity::bytes:
      return {static_cast<double>(cell.bytes), 1};
    case HeatQuantity::cpu_share:
      return {static_cast<double>(cell.cpu), demands};
    case HeatQuantity::low_precision:
      return {static_cast<double>(cell.low_precision), demands};
    case HeatQuantity::left_out:
      return {static_cast<double>(cell.skipped + cell.substituted), 1};
  }
  return {};
}

int labels_every(double cell, double label) {
  for (const int every : {1, 2, 4, 8, 16, 32, 64})
    if (cell * every >= label) return every;
  return 128;
}

}  // namespace

const char* name(HeatQuantity quantity) {
  switch (quantity) {
    case HeatQuantity::activations:
      return "Activations";
    case HeatQuantity::hits:
      return "Hits";
    case HeatQuantity::misses:
      return "Misses";
    case HeatQuantity::hit_rate:
      return "Hit rate";
    case HeatQuantity::residency:
      return "Residency";
    case HeatQuantity::bytes:
      return "Copied bytes";
    case HeatQuantity::cpu_share:
      return "CPU share";
    case HeatQuantity::low_precision:
      return "Low precision";
    case HeatQuantity::left_out:
      return "Left out";
  }
  return "?";
}

const char* help(HeatQuantity quantity) {
  switch (quantity) {
    case HeatQuantity::activations:
      return "how often the router chose the expert";
    case HeatQuantity::hits:
      return "demands that found the expert in a slot";
    case HeatQuantity::misses:
      return "demands that found it neither in a slot nor on its way";
    case HeatQuantity::hit_rate:
      return "hits of its demands";
    case HeatQuantity::residency:
      return "share of the time in which a slot held it";
    case HeatQuantity::bytes:
      return "bytes of its copies from host to GPU";
    case HeatQuantity::cpu_share:
      return "share of its demands that ran on the CPU";
    case HeatQuantity::low_precision:
      return "share of its demands that ran below native precision";
    case HeatQuantity::left_out:
      return "demands that were skipped, or for which another expert ran";
  }
  return "";
}

bool is_share(HeatQuantity quantity) {
  return quantity == HeatQuantity::hit_rate || quantity == HeatQuantity::residency ||
         quantity == HeatQuantity::cpu_share || quantity == HeatQuantity::low_precision;
}

std::string heat_value(HeatQuantity quantity, double value) {
  if (std::isnan(value)) return "no demand";
  if (is_share(quantity)) return format_percent(value);
  if (quantity == HeatQuantity::bytes) return format_bytes(value);
  return format_count(static_cast<std::uint64_t>(value));
}

HeatValues heat_values(const ExpertGrid& grid, HeatQuantity quantity, TimeNs range_ns) {
  HeatValues values{.layers = grid.layers, .experts = grid.experts, .cells = {}, .by_layer = {}, .by_expert = {}};
  const bool share = is_share(quantity);
  std::vector<Fraction> layers(static_cast<std::size_t>(grid.layers)), experts(static_cast<std::size_t>(grid.experts));
  Fraction all;
  const auto add = [](Fraction& sum, const Fraction& part) {
    sum.top += part.top;
    sum.bottom += part.bottom;
  };
  for (std::size_t i = 0; i < grid.cells.size(); ++i) {
    const Fraction part = fraction_of(quantity, grid.cells[i], range_ns);
    add(layers[i / static_cast<std::size_t>(grid.experts)], part);
    add(experts[i % static_cast<std::size_t>(grid.experts)], part);
    add(all, part);
    values.cells.push_back(part.value(share));
    if (!std::isnan(values.cells.back())) values.max = std::max(values.max, values.cells.back());
  }
  for (const Fraction& layer : layers) values.by_layer.push_back(layer.value(share));
  for (const Fraction& expert : experts) values.by_expert.push_back(expert.value(share));
  const auto largest = [](const std::vector<double>& list) {
    double max = 0;
    for (const double value : list)
      if (!std::isnan(value)) max = std::max(max, value);
    return max;
  };
  values.max_by_layer = largest(values.by_layer);
  values.max_by_expert = largest(values.by_expert);
  values.total = all.value(share);
  if (share) values.max = values.max_by_layer = values.max_by_expert = 1;
  return values;
}

double heat_place(double value, double max, bool logarithmic) {
  if (!(max > 0) || std::isnan(value)) return 0;
  if (!logarithmic) return std::clamp(value / max, 0.0, 1.0);
  // log(1 + value) keeps zero at zero; shares are stretched so that their small values are told apart too.
  const double stretch = max <= 1 ? 1000 / max : 1;
  return std::clamp(std::log1p(value * stretch) / std::log1p(max * stretch), 0.0, 1.0);
}

HeatLayout heatmap_layout(int layers, int experts, double x0, double y0, double x1, double y1, const HeatSizes& sizes) {
  HeatLayout layout;
  layout.layers = layers;
  layout.experts = experts;
  layout.x0 = x0 + sizes.left_labels;
  layout.y0 = y0 + sizes.top_labels;
  const double room_x = x1 - sizes.margin - sizes.gap - layout.x0, room_y = y1 - sizes.margin - sizes.gap - layout.y0;
  if (layers <= 0 || experts <= 0 || room_x <= 0 || room_y <= 0) return layout;
  const auto whole = [](double size) { return size >= 4 ? std::floor(size) : size; };  // sharp edges where pixels allow
  layout.cell_w = whole(room_x / experts);
  layout.cell_h = whole(std::min(room_y / layers, std::max(layout.cell_w * 1.6, 14.0)));
  layout.x1 = layout.x0 + layout.cell_w * experts;
  layout.y1 = layout.y0 + layout.cell_h * layers;
  layout.right_x0 = layout.x1 + sizes.gap;
  layout.right_x1 = layout.right_x0 + sizes.margin;
  layout.bottom_y0 = layout.y1 + sizes.gap;
  layout.bottom_y1 = layout.bottom_y0 + sizes.margin;
  layout.layer_labels_every = labels_every(layout.cell_h, sizes.label_height);
  layout.expert_labels_every = labels_every(layout.cell_w, sizes.label_width);
  return layout;
}

std::optional<ExpertId> HeatLayout::cell_at(double x, double y) const {
  if (x < x0 || y < y0 || x >= x1 || y >= y1 || cell_w <= 0 || cell_h <= 0) return std::nullopt;
  const int expert = std::min(experts - 1, static_cast<int>((x - x0) / cell_w));
  const int layer = std::min(layers - 1, static_cast<int>((y - y0) / cell_h));
  return ExpertId{static_cast<std::uint16_t>(layer), static_cast<std::uint16_t>(expert)};
}

}  // namespace expertscope
