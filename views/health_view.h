// The health window: what was lost, what fell back, what was ignored.
#pragma once

#include <vector>

#include "views/view.h"

namespace expertscope {

class HealthView {
 public:
  void draw(ViewContext&, const std::vector<HealthNote>& notes, const std::string& status_of_window);
};

Color severity_color(const Palette&, Severity);

}  // namespace expertscope
