// The control window: run and pause, a prompt, the policy, the cache, and what the last token waited for.
#pragma once

#include <string>

#include "views/policy_editor.h"
#include "views/view.h"
#include "views/widgets.h"

namespace expertscope {

// "4 of 16 per layer, 48 slots, 4.75 GB": what a cache ratio means.
std::string cache_meaning(const LiveStatus&, double ratio);

class ControlView {
 public:
  void draw(ViewContext&);
  void focus_prompt() { focus_prompt_ = true; }

 private:
  void draw_model(ViewContext&);
  void draw_transport(ViewContext&);
  void draw_prompt(ViewContext&);
  void draw_policy(ViewContext&, float spare);
  void draw_cache(ViewContext&);
  void draw_speed(ViewContext&);
  void draw_messages(ViewContext&);
  void draw_attribution(ViewContext&);
  void draw_recorded(ViewContext&);
  void send_prompt(ViewContext&);

  PolicyEditor policy_;
  std::string prompt_;
  int tokens_ = 0;
  SliderState cache_, speed_;
  std::string dismissed_error_;
  bool focus_prompt_ = false;
  float fixed_height_ = 0;  // of everything but the components, as of the last frame
};

}  // namespace expertscope
