// The experts window: layer x expert heatmap of any quantity over any stretch of time, and one expert's history.
#pragma once

#include <vector>

#include "views/heatmap_layout.h"
#include "views/view.h"

namespace expertscope {

class ExpertsView {
 public:
  void draw(ViewContext&);
  // Of the last frame: where cells are on the screen, what they show, and of which stretch of time.
  const HeatLayout& layout() const { return layout_; }
  const HeatValues& values() const { return values_; }
  TimeRange range() const { return grid_range_; }
  HeatQuantity quantity() const { return quantity_; }

 private:
  enum class Scope { automatic, timeline, whole };

  TimeRange range_of(const ViewContext&) const;
  void draw_toolbar(ViewContext&);
  void draw_map(ViewContext&, float height);
  void draw_cells(ViewContext&, ImDrawList&);
  void draw_margins(ViewContext&, ImDrawList&);
  void draw_scale(ViewContext&);
  void hover(ViewContext&);
  void draw_history(ViewContext&, float height);

  HeatQuantity quantity_ = HeatQuantity::activations;
  Scope scope_ = Scope::automatic;
  bool logarithmic_ = false;
  HeatLayout layout_;

  // What was computed last, and for what.
  ExpertGrid grid_;
  HeatValues values_;
  TimeRange grid_range_{0, 0};
  const Trace* trace_ = nullptr;
  std::uint64_t revision_ = 0;
  HeatQuantity values_quantity_ = HeatQuantity::activations;
  std::vector<ExpertHistoryBin> history_;
  ExpertId history_of_;
  std::uint64_t history_revision_ = 0;
  TimeRange history_range_{0, 0};
};

}  // namespace expertscope
