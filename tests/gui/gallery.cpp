#include "tests/gui/gallery.h"

#include <functional>

#include "imgui.h"

#include "app/window.h"
#include "tests/views/sample_trace.h"
#include "views/workbench.h"

namespace expertscope {
namespace {

constexpr int kFrames = 12;  // windows settle, fonts are baked, cursors are shared

struct Picture {
  const char* name;
  bool live = true, empty = false;
  std::function<void(Workbench&, const Trace&)> prepare;  // before a frame; may be empty
  const char* policy = nullptr;                           // in force, when it is not the sample's
};

void draw_picture(const Picture& picture, int width, int height, const std::string& path) {
  Window window({.width = width,
                 .height = height,
                 .title = "ExpertScope gallery",
                 .layout_path = "",
                 .scale = 1,
                 .exact_size = true});
  Hooks hooks = sample::hooks();
  hooks.has_live_run = !picture.live;
  hooks.show_live_run = [] {};
  Workbench workbench(hooks, window.scale());
  Trace trace;
  const auto batches = sample::batches();
  if (picture.empty) {
    // Ready to run: the start is known, no step was made.
    Batch start;
    start.start = batches.front().start;
    start.epochs = batches.front().epochs;
    trace.append(start);
  } else {
    for (const Batch& batch : batches) trace.append(batch);
  }
  LiveStatus status = sample::live_status(trace);
  status.live = picture.live;
  if (picture.policy) status.policy_spec = picture.policy;
  if (!picture.live) status.session_path = "/sessions/night-lfu.expertscope";
  std::vector<Command> commands;
  for (int frame = 0; frame < kFrames; ++frame) {
    if (picture.prepare && frame == kFrames / 2) picture.prepare(workbench, trace);
    window.wait(0);
    window.begin_frame();
    workbench.draw(trace, status, frame * 0.25, commands);
    window.end_frame(frame + 1 == kFrames ? path : "");
  }
}

// Presses and lets go, over the frames that follow; then the mouse rests where it is.
void click(float x, float y) {
  ImGuiIO& io = ImGui::GetIO();
  io.AddMousePosEvent(x, y);
  io.AddMouseButtonEvent(ImGuiMouseButton_Left, true);
  io.AddMouseButtonEvent(ImGuiMouseButton_Left, false);
}

// Where an item of Control lies: its rows have the same places at any size.
constexpr ImVec2 kPolicyCombo{120, 254}, kComponents{238, 281};

}  // namespace

void write_gallery(const std::string& folder) {
  const Picture pictures[] = {
      {.name = "live", .prepare = {}},
      {.name = "opened", .live = false, .prepare = {}},
      {.name = "empty", .empty = true, .prepare = {}},
      {.name = "light", .prepare = [](Workbench& workbench, const Trace&) { workbench.use_dark_theme(false); }},
      {.name = "selected",
       .prepare =
           [](Workbench& workbench, const Trace& trace) {
             Selection& selection = workbench.selection();
             const StepRecord& step = trace.steps[230];
             selection.step = step.step;
             selection.expert = ExpertId{3, 5};
             selection.look_at({step.start_ns, trace.steps[231].end_ns}, {0, trace.end_ns()});
             selection.range = TimeRange{step.start_ns, step.end_ns};
             selection.pinned =
                 PinnedItem{static_cast<std::uint32_t>(trace.works_of(230).data() + 6 - trace.works.data()), false};
           }},
      {.name = "zoomed",
       .prepare =
           [](Workbench& workbench, const Trace& trace) {
             workbench.selection().look_at(
                 {trace.steps[150].start_ns,
                  trace.steps[150].start_ns + (trace.steps[150].end_ns - trace.steps[150].start_ns) / 3},
                 {0, trace.end_ns()});
             workbench.selection().cursor = trace.steps[150].start_ns;
           }},
      {.name = "policies",
       .prepare = [](Workbench&, const Trace&) { click(kPolicyCombo.x, kPolicyCombo.y); },
       .policy = "hobbit"},
      {.name = "components",
       .prepare = [](Workbench&, const Trace&) { click(kComponents.x, kComponents.y); },
       .policy = "hobbit"},
      {.name = "whole", .prepare = [](Workbench& workbench, const Trace& trace) {
         workbench.selection().timeline = {0, trace.end_ns()};
         workbench.selection().follow = false;
       }}};
  for (const Picture& picture : pictures) {
    draw_picture(picture, 1280, 800, folder + "/" + picture.name + "-1280x800.png");
    draw_picture(picture, 2560, 1440, folder + "/" + picture.name + "-2560x1440.png");
  }
}

}  // namespace expertscope
