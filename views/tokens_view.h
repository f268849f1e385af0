// The tokens window: the text, each token on a ground that shows what it cost, and the chosen token's route and waits.
#pragma once

#include <optional>

#include "views/token_layout.h"
#include "views/view.h"

namespace expertscope {

class TokensView {
 public:
  void draw(ViewContext&);

 private:
  void draw_text(ViewContext&, float width, float height);
  void draw_details(ViewContext&);
  void draw_actions(ViewContext&, const StepRecord&);
  void update_scale(ViewContext&);

  TokenLines lines_;
  TimeNs cheap_ns_ = 0, dear_ns_ = 0;  // ends of the colour scale: 5th and 95th percentile of decode
  const Trace* trace_ = nullptr;
  std::uint64_t revision_ = 0;
  std::optional<std::uint32_t> shown_step_;  // scrolled to
  std::size_t known_lines_ = 0;
  float known_height_ = 0;
};

}  // namespace expertscope
