// All windows of the workbench over one session, live or opened. Window thread.
#pragma once

#include <string>
#include <vector>

#include "views/control_view.h"
#include "views/experts_view.h"
#include "views/health_view.h"
#include "views/hooks.h"
#include "views/sessions_view.h"
#include "views/strips_view.h"
#include "views/timeline_view.h"
#include "views/tokens_view.h"
#include "views/ui_commands.h"
#include "views/view.h"

namespace expertscope {

class Workbench {
 public:
  // Fonts are loaded and the theme applied: the Dear ImGui and ImPlot contexts must exist.
  Workbench(Hooks, float monitor_scale);

  // One frame between ImGui::NewFrame and ImGui::Render. What the user asked of the engine is appended to `out`.
  // `now_s` is any clock that does not go back; numbers that people read change five times a second by it.
  void draw(const Trace&, const LiveStatus&, double now_s, std::vector<Command>& out);

  // Whether the last frame left something that the next one shows (a cursor that moved), so that it must be drawn too.
  bool wants_another_frame() const { return another_frame_; }

  Hooks& hooks() { return hooks_; }
  Selection& selection() { return selection_; }
  const Selection& selection() const { return selection_; }
  const TraceIndex& index() const { return index_; }
  const ExpertsView& experts() const { return experts_; }
  Theme& theme() { return theme_; }
  SessionsView& sessions() { return sessions_; }
  void reset_layout() { build_layout_ = true; }
  void use_dark_theme(bool);
  // A line for the foot of the health window: the window system.
  void set_window_status(std::string text) { window_status_ = std::move(text); }

 private:
  void update_numbers(const Trace&, const LiveStatus&, double now_s);
  void update_pending(const LiveStatus&, const std::vector<Command>&, std::size_t first_new);
  void build_layout(unsigned int dockspace);
  void handle_keys(ViewContext&);
  void act(ViewContext&, UiAction);
  void draw_help();
  void show(const char* window);

  Hooks hooks_;
  Theme theme_;
  Selection selection_;
  TraceIndex index_;
  LiveNumbers numbers_;
  std::vector<HealthNote> health_;
  std::vector<PendingChange> pending_;

  ControlView control_;
  StripsView strips_;
  TimelineView timeline_;
  ExpertsView experts_;
  TokensView tokens_;
  SessionsView sessions_;
  HealthView health_view_;

  std::string window_status_, focus_;
  std::string judged_policy_;  // whether it is inexact was found out
  bool inexact_policy_ = false;
  double refreshed_at_s_ = -1e9, health_at_s_ = -1e9;
  std::uint64_t numbers_revision_ = 0;
  bool refresh_ = true, refresh_often_ = true;
  std::uint64_t commands_sent_ = 0, applied_before_ = 0;
  bool counted_ = false;
  int layout_frames_ = 0;
  bool build_layout_ = false, help_ = false, another_frame_ = false;
};

}  // namespace expertscope
