#include "tests/gui/workbench_tests.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "imgui.h"
#include "imgui_internal.h"
#include "imgui_te_context.h"
#include "imgui_te_engine.h"

#include "engine/policy/registry.h"

namespace expertscope {
namespace {

World* world = nullptr;  // of the category that runs

const Trace& trace() {
  return world->harness->trace();
}
LiveStatus status() {
  return world->harness->status();
}
Selection& selection() {
  return world->workbench->selection();
}

// Frames until it holds; an engine needs time, a broken one does not get for ever.
bool wait_until(ImGuiTestContext* ctx, const std::function<bool()>& holds) {
  for (int frame = 0; frame < 1200; ++frame) {
    if (holds()) return true;
    ctx->Yield();
  }
  return false;
}

ImRect rect_of(ImGuiTestContext* ctx, const char* item) {
  return ctx->ItemInfo(item).RectFull;
}

void choose(ImGuiTestContext* ctx, const char* combo, const char* choice) {
  ctx->ItemClick(combo);
  ctx->ItemClick(choice);
}

std::uint64_t picks_in(TimeRange range) {
  std::uint64_t picks = 0;
  for (const ExpertTotals& cell : expert_totals(trace(), range)) picks += cell.activations;
  return picks;
}

void drag_in_timeline(ImGuiTestContext* ctx, float from, float to, ImGuiMouseButton button, ImGuiKeyChord modifier) {
  const ImRect canvas = rect_of(ctx, "//Timeline/##canvas");
  const auto at = [&](float share) {
    return ImVec2(canvas.Min.x + canvas.GetWidth() * share, canvas.Min.y + canvas.GetHeight() * 0.9f);
  };
  ctx->MouseMoveToPos(at(from));
  if (modifier) ctx->KeyDown(modifier);
  ctx->MouseDown(button);
  ctx->MouseMoveToPos(at(to));
  ctx->MouseUp(button);
  if (modifier) ctx->KeyUp(modifier);
  ctx->Yield(2);
}

void an_empty_workbench_runs_a_demo_prompt_at_a_click(ImGuiTestContext* ctx) {
  IM_CHECK(trace().steps.empty());
  ctx->ItemClick("//Timeline/Run a demo prompt");
  IM_CHECK(wait_until(ctx, [] { return trace().steps.size() >= 24; }));
  IM_CHECK_STR_EQ(trace().prompts.at(0).text.c_str(), world->workbench->hooks().workloads.at(0).prompts.at(0).c_str());
  ctx->Yield(3);
  IM_CHECK(!ctx->ItemExists("//Timeline/Run a demo prompt"));
  IM_CHECK(ctx->ItemExists("//Timeline/##canvas"));
}

void a_typed_prompt_is_answered(ImGuiTestContext* ctx) {
  IM_CHECK(wait_until(ctx, [] { return !status().running; }));
  const std::size_t prompts = trace().prompts.size();
  ctx->SetRef("//Control");
  ctx->ItemClick("##prompt");
  ctx->KeyCharsReplace("The harbour lay quiet");
  ctx->KeyPress(ImGuiKey_Enter);
  IM_CHECK(wait_until(ctx, [&] { return trace().prompts.size() == prompts + 1; }));
  IM_CHECK_STR_EQ(trace().prompts.back().text.c_str(), "The harbour lay quiet");
  if (std::string_view(world->harness->name()) == "engine") {
    const std::uint32_t prompt = trace().prompts.back().prompt;
    IM_CHECK(wait_until(ctx, [&] {
      return !trace().tokens.empty() && trace().tokens.back().prompt == prompt && trace().tokens.back().generated;
    }));
    IM_CHECK(wait_until(ctx, [] { return !status().running; }));
  }
}

void a_workload_fills_the_prompt_box_and_send_sends_it(ImGuiTestContext* ctx) {
  const std::size_t prompts = trace().prompts.size();
  ctx->SetRef("//Control");
  ctx->ItemClick("##workload");
  ctx->Yield();
  const std::string& wanted = world->workbench->hooks().workloads.at(0).prompts.at(1);
  ctx->KeyPress(ImGuiKey_DownArrow, 2);
  ctx->KeyPress(ImGuiKey_Enter);
  ctx->ItemClick("Send");
  IM_CHECK(wait_until(ctx, [&] { return trace().prompts.size() == prompts + 1; }));
  bool known = false;
  for (const Workload& workload : world->workbench->hooks().workloads)
    for (const std::string& prompt : workload.prompts) known = known || prompt == trace().prompts.back().text;
  IM_CHECK(known);
  IM_CHECK(!wanted.empty());
  IM_CHECK(wait_until(ctx, [] { return !status().running; }));
}

void the_cache_slider_changes_the_engines_cache(ImGuiTestContext* ctx) {
  const std::size_t epochs = trace().epochs.size();
  ctx->SetRef("//Control");
  ctx->MouseMove("##cache_ratio");
  const ImRect slider = rect_of(ctx, "//Control/##cache_ratio");
  ctx->MouseDown();
  ctx->MouseMoveToPos({slider.Min.x + slider.GetWidth() * 0.75f, slider.GetCenter().y});
  IM_CHECK_EQ(trace().epochs.size(), epochs);  // nothing is sent while the mouse is down
  ctx->MouseUp();
  IM_CHECK(wait_until(ctx, [&] { return std::fabs(status().cache_ratio - 0.75) < 0.04; }));
  IM_CHECK(wait_until(ctx, [&] { return trace().epochs.size() == epochs + 1; }));
  IM_CHECK_EQ(trace().epochs.back().cache_ratio, status().cache_ratio);
  IM_CHECK_STR_EQ(trace().epochs.back().source.c_str(), "user");
}

void double_clicking_the_cache_slider_types_a_value(ImGuiTestContext* ctx) {
  ctx->SetRef("//Control");
  ctx->MouseMove("##cache_ratio");
  ctx->MouseDoubleClick();
  ctx->Yield(2);
  ctx->KeyCharsReplaceEnter("0.125");
  IM_CHECK(wait_until(ctx, [] { return std::fabs(status().cache_ratio - 0.125) < 1e-9; }));
  // And a right click goes back to where the run began.
  ctx->MouseMove("##cache_ratio");
  ctx->MouseClick(ImGuiMouseButton_Right);
  IM_CHECK(wait_until(ctx, [] { return std::fabs(status().cache_ratio - 0.25) < 1e-9; }));
}

void choosing_a_preset_changes_the_engines_policy(ImGuiTestContext* ctx) {
  const std::size_t epochs = trace().epochs.size();
  ctx->SetRef("//Control");
  choose(ctx, "##policy", "//$FOCUSED/lookahead/lookahead");
  IM_CHECK(wait_until(ctx, [] { return status().policy_spec == "lookahead"; }));
  IM_CHECK(wait_until(ctx, [&] { return trace().epochs.size() == epochs + 1; }));
  IM_CHECK_STR_EQ(trace().epochs.back().policy_spec.c_str(), "lookahead");
}

// Where the components' widgets are now: in Control, or in a popup of it when the window is too low to hold them.
void look_at_components(ImGuiTestContext* ctx) {
  ctx->Yield(3);
  ctx->SetRef("//Control");
  if (!ctx->ItemExists("Components")) return;
  if (ctx->UiContext->OpenPopupStack.empty()) ctx->ItemClick("Components");
  ctx->SetRef(ctx->UiContext->OpenPopupStack.front().Window);
}

void swapping_a_component_and_setting_a_parameter_change_the_spec(ImGuiTestContext* ctx) {
  look_at_components(ctx);
  choose(ctx, "##evictor", "//$FOCUSED/lfu");
  IM_CHECK(wait_until(ctx, [] {
    return parse_policy_spec(status().policy_spec).components[static_cast<std::size_t>(ComponentKind::evictor)] ==
           "lfu";
  }));
  const bool cancels = parse_policy_spec(status().policy_spec).parameter(ComponentKind::prefetcher, "cancel") != 0;
  look_at_components(ctx);
  ctx->ItemClick("##prefetcher.cancel");
  IM_CHECK(wait_until(ctx, [&] {
    return (parse_policy_spec(status().policy_spec).parameter(ComponentKind::prefetcher, "cancel") != 0) != cancels;
  }));
  ctx->PopupCloseAll();
}

// --- inexact policies

bool over_the_engine() {
  return std::string_view(world->harness->name()) == "engine";
}

void run_a_prompt(ImGuiTestContext* ctx, const char* text, int tokens) {
  const std::size_t prompts = trace().prompts.size();
  ctx->ItemInputValue("//Control/##tokens", tokens);
  ctx->SetRef("//Control");
  ctx->ItemClick("##prompt");
  ctx->KeyCharsReplace(text);
  ctx->KeyPress(ImGuiKey_Enter);
  IM_CHECK(wait_until(ctx, [&] { return trace().prompts.size() == prompts + 1; }));
  if (over_the_engine()) {
    IM_CHECK(wait_until(ctx, [&] {
      return !trace().steps.empty() && trace().steps.back().prompt == trace().prompts.back().prompt &&
             trace().steps.back().phase == Phase::decode && !status().running;
    }));
  }
  ctx->Yield(2);
}

// Demands of everything that was run, as the profiler counts them.
ExpertCounts counted() {
  ExpertCounts all;
  for (const StepRecord& step : trace().steps)
    for (const DemandRecord& demand : trace().demands_of(step.step)) add_demand(all, demand);
  return all;
}

void a_policy_is_found_by_typing_a_part_of_its_name(ImGuiTestContext* ctx) {
  ctx->SetRef("//Control");
  ctx->ItemClick("##policy");
  ctx->Yield();
  ctx->KeyChars("hobb");
  ctx->Yield();
  IM_CHECK(ctx->ItemExists("//$FOCUSED/hobbit/hobbit"));
  IM_CHECK(!ctx->ItemExists("//$FOCUSED/on-demand/on-demand"));
  ctx->KeyPress(ImGuiKey_Enter);
  IM_CHECK(wait_until(ctx, [] { return status().policy_spec == "hobbit"; }));
  ctx->ItemClick("//Control/##policy");
  ctx->Yield();
  IM_CHECK(ctx->ItemExists("//$FOCUSED/on-demand/on-demand"));
  IM_CHECK(!ctx->ItemExists("//$FOCUSED/belady/belady"));
  ctx->PopupCloseAll();
}

void hobbits_low_precisions_are_counted_in_experts(ImGuiTestContext* ctx) {
  run_a_prompt(ctx, "The lamp on the pier", 24);
  if (!over_the_engine()) return;
  const ExpertCounts counts = counted();
  const InexactCounts shown = world->workbench->index().inexact.total();
  IM_CHECK_GT(counts.low_precision, 0u);
  IM_CHECK_EQ(static_cast<std::uint64_t>(shown.low_precision), counts.low_precision);
  IM_CHECK_EQ(static_cast<std::uint64_t>(shown.left_out()), counts.skipped + counts.substituted);
  choose(ctx, "//Experts/##quantity", "//$FOCUSED/Low precision");
  ctx->Yield(2);
  IM_CHECK_EQ(world->workbench->experts().values().total,
              static_cast<double>(counts.low_precision) / static_cast<double>(counts.demands));
  choose(ctx, "//Experts/##quantity", "//$FOCUSED/Left out");
  ctx->Yield(2);
  IM_CHECK_EQ(static_cast<std::uint64_t>(world->workbench->experts().values().total),
              counts.skipped + counts.substituted);
  choose(ctx, "//Experts/##quantity", "//$FOCUSED/Activations");
}

void daops_early_cpu_work_is_counted_from_the_layer_on_that_is_set(ImGuiTestContext* ctx) {
  ctx->SetRef("//Control");
  choose(ctx, "##policy", "//$FOCUSED/daop/daop");
  IM_CHECK(wait_until(ctx, [] { return status().policy_spec == "daop"; }));
  look_at_components(ctx);
  choose(ctx, "##evictor", "//$FOCUSED/lru");
  IM_CHECK(wait_until(ctx, [] { return status().policy_spec == "daop:evictor=lru"; }));
  look_at_components(ctx);
  ctx->MouseMove("##gate.first_layer");
  ctx->MouseDoubleClick();
  ctx->Yield(2);
  ctx->KeyCharsReplaceEnter("3");
  IM_CHECK(wait_until(
      ctx, [] { return parse_policy_spec(status().policy_spec).parameter(ComponentKind::gate, "first_layer") == 3; }));
  ctx->PopupCloseAll();
  run_a_prompt(ctx, "A ship came near", 24);
  if (!over_the_engine()) return;
  const auto early = world->workbench->index().inexact.early();
  IM_CHECK_GT(early.size(), 0u);
  const ExpertCounts counts = counted();
  std::uint64_t demanded = 0;
  std::uint16_t first_layer = kNone16;
  for (const InexactIndex::Early& work : early) {
    demanded += work.demanded;
    first_layer = std::min(first_layer, trace().works[work.record].layer);
  }
  IM_CHECK_EQ(demanded, counts.cpu_early);
  IM_CHECK_EQ(first_layer, 3);
}

void a_refused_policy_says_why_in_control(ImGuiTestContext* ctx) {
  if (!over_the_engine()) return;
  const std::string before = status().policy_spec;
  ctx->SetRef("//Control");
  choose(ctx, "##policy", "//$FOCUSED/resident/resident");
  IM_CHECK(wait_until(ctx, [] { return !status().error.empty(); }));
  IM_CHECK_STR_EQ(status().policy_spec.c_str(), before.c_str());
  ctx->Yield(2);
  IM_CHECK(ctx->ItemExists("//Control/**/Dismiss"));
  ctx->ItemClick("//Control/**/Dismiss");
  ctx->Yield(2);
  IM_CHECK(!ctx->ItemExists("//Control/**/Dismiss"));
}

void control_never_scrolls(ImGuiTestContext* ctx) {
  ctx->Yield(3);
  const ImGuiWindow* control = ctx->GetWindowByRef("//Control");
  IM_CHECK(control != nullptr);
  IM_CHECK_EQ(control->ScrollMax.y, 0.0f);
  IM_CHECK_EQ(control->ScrollMax.x, 0.0f);
}

void space_pauses_and_resumes(ImGuiTestContext* ctx) {
  ctx->MouseMove("//Timeline/##canvas");
  ctx->KeyPress(ImGuiKey_Space);
  IM_CHECK(wait_until(ctx, [] { return status().paused; }));
  ctx->KeyPress(ImGuiKey_Space);
  IM_CHECK(wait_until(ctx, [] { return !status().paused; }));
}

void m_marks_the_moment(ImGuiTestContext* ctx) {
  const std::size_t marks = trace().marks.size();
  ctx->KeyPress(ImGuiKey_M);
  IM_CHECK(wait_until(ctx, [&] { return trace().marks.size() == marks + 1; }));
}

void a_range_dragged_in_the_timeline_is_what_the_heatmap_counts(ImGuiTestContext* ctx) {
  drag_in_timeline(ctx, 0.3f, 0.7f, ImGuiMouseButton_Left, ImGuiMod_Ctrl);
  IM_CHECK(selection().range.has_value());
  const TimeRange range = *selection().range;
  IM_CHECK(selection().timeline.contains(range.begin_ns) && selection().timeline.contains(range.end_ns));
  IM_CHECK(same(world->workbench->experts().range(), range));
  IM_CHECK_EQ(static_cast<std::uint64_t>(world->workbench->experts().values().total), picks_in(range));
  IM_CHECK_LT(picks_in(range), picks_in({}));
  IM_CHECK(ctx->ItemExists("//Timeline/Clear"));
  ctx->ItemClick("//Timeline/Clear");
  IM_CHECK(!selection().range.has_value());
  ctx->Yield(2);
  IM_CHECK_EQ(static_cast<std::uint64_t>(world->workbench->experts().values().total), picks_in({}));
}

void wheel_and_keys_zoom_and_pan_and_following_ends(ImGuiTestContext* ctx) {
  ctx->KeyPress(ImGuiKey_End);
  ctx->Yield();
  IM_CHECK(selection().follow);
  ctx->MouseMove("//Timeline/##canvas");
  const TimeNs width = width_ns(selection().timeline);
  ctx->MouseWheelY(2);
  IM_CHECK_LT(width_ns(selection().timeline), width);
  const TimeNs zoomed = width_ns(selection().timeline);
  ctx->KeyPress(ImGuiKey_S);
  IM_CHECK_GT(width_ns(selection().timeline), zoomed);
  const TimeNs begin = selection().timeline.begin_ns;
  ctx->KeyPress(ImGuiKey_A);
  IM_CHECK_LT(selection().timeline.begin_ns, begin);
  IM_CHECK(!selection().follow);
  const TimeNs before = selection().timeline.begin_ns;
  drag_in_timeline(ctx, 0.4f, 0.6f, ImGuiMouseButton_Right, 0);
  IM_CHECK_LT(selection().timeline.begin_ns, before);
  ctx->ItemClick("//Timeline/##follow");
  ctx->Yield(2);
  IM_CHECK(selection().follow);
  IM_CHECK_GE(selection().timeline.end_ns, trace().end_ns());
}

void clicking_a_heatmap_cell_shows_that_experts_history(ImGuiTestContext* ctx) {
  const HeatLayout& layout = world->workbench->experts().layout();
  ctx->MouseMoveToPos(
      {static_cast<float>(layout.x0 + 5.5 * layout.cell_w), static_cast<float>(layout.y0 + 3.5 * layout.cell_h)});
  ctx->MouseClick();
  IM_CHECK(selection().expert == (ExpertId{3, 5}));
  IM_CHECK(ctx->ItemExists("//Experts/##close_history"));
  ctx->ItemClick("//Experts/##close_history");
  IM_CHECK(!selection().expert.has_value());
}

void choosing_a_quantity_recolours_the_heatmap(ImGuiTestContext* ctx) {
  choose(ctx, "//Experts/##quantity", "//$FOCUSED/Misses");
  ctx->Yield();
  IM_CHECK(world->workbench->experts().quantity() == HeatQuantity::misses);
  std::uint64_t misses = 0;
  for (const ExpertTotals& cell : expert_totals(trace())) misses += cell.misses;
  IM_CHECK_EQ(static_cast<std::uint64_t>(world->workbench->experts().values().total), misses);
  choose(ctx, "//Experts/##quantity", "//$FOCUSED/Activations");
}

void clicking_a_token_takes_the_timeline_there(ImGuiTestContext* ctx) {
  ctx->KeyPress(ImGuiKey_Escape);
  const ImGuiTestItemInfo text = ctx->WindowInfo("//Tokens/##text");
  IM_CHECK(text.Window != nullptr);
  const ImRect area = text.Window->InnerRect;
  ctx->MouseMoveToPos({area.Min.x + 30, area.Min.y + area.GetHeight() * 0.3f});
  ctx->Yield(2);
  IM_CHECK(selection().cursor.has_value());
  ctx->MouseClick();
  IM_CHECK(selection().step.has_value());
  const StepRecord& step = trace().steps[*selection().step];
  IM_CHECK(selection().timeline.contains(step.start_ns) && selection().timeline.contains(step.end_ns - 1));
  IM_CHECK(!selection().follow);
  ctx->KeyPress(ImGuiKey_Escape);
  IM_CHECK(!selection().step.has_value());
}

void a_saved_session_opens_in_the_same_views_and_the_live_run_comes_back(ImGuiTestContext* ctx) {
  const std::size_t live_steps = trace().steps.size();
  ctx->ItemClick("//Sessions");
  IM_CHECK(wait_until(ctx, [&] { return ctx->ItemExists("//Sessions/**/Open"); }));
  ctx->ItemClick("//Sessions/**/Open");
  IM_CHECK(wait_until(ctx, [] { return !status().live && trace().steps.size() == kSavedTokens; }));
  ctx->Yield(3);
  IM_CHECK(!ctx->ItemExists("//Control/##cache_ratio"));
  IM_CHECK(ctx->ItemExists("//Timeline/##canvas"));
  IM_CHECK_EQ(static_cast<std::uint64_t>(world->workbench->experts().values().total), picks_in({}));
  ctx->ItemClick("//Control/##live");
  IM_CHECK(wait_until(ctx, [] { return status().live; }));
  IM_CHECK_GE(trace().steps.size(), live_steps);
  ctx->Yield(3);
  IM_CHECK(ctx->ItemExists("//Control/##cache_ratio"));
}

void a_question_mark_lists_the_keys(ImGuiTestContext* ctx) {
  ctx->MouseMove("//Timeline/##canvas");
  ctx->KeyPress(ImGuiMod_Shift | ImGuiKey_Slash);
  ctx->Yield(2);
  IM_CHECK(ctx->WindowInfo("//Keys and gestures", ImGuiTestOpFlags_NoError).Window != nullptr);
  ctx->KeyPress(ImGuiKey_Escape);
  ctx->Yield(2);
  const ImGuiWindow* help = ctx->GetWindowByRef("//Keys and gestures");
  IM_CHECK(help == nullptr || !help->Active);
}

void the_theme_and_the_layout_answer_their_keys(ImGuiTestContext* ctx) {
  const bool dark = world->workbench->theme().dark;
  ctx->KeyPress(ImGuiMod_Ctrl | ImGuiKey_T);
  IM_CHECK_EQ(world->workbench->theme().dark, !dark);
  ctx->KeyPress(ImGuiMod_Ctrl | ImGuiKey_T);
  IM_CHECK_EQ(world->workbench->theme().dark, dark);
  const auto left_of_experts = [&] { return ctx->GetWindowByRef("//Experts")->Rect().Min; };
  const ImVec2 before = left_of_experts();
  ctx->MouseMoveToPos({before.x - 2, before.y + 60});
  ctx->MouseDragWithDelta({-90, 0});
  ctx->Yield(2);
  IM_CHECK_LT(left_of_experts().x, before.x - 60);
  ctx->KeyPress(ImGuiMod_Ctrl | ImGuiMod_Shift | ImGuiKey_R);
  ctx->Yield(6);
  IM_CHECK_LT(std::fabs(left_of_experts().x - before.x), 5);
}

struct NamedTest {
  const char* name;
  void (*run)(ImGuiTestContext*);
};

constexpr NamedTest kTests[] = {
    {"an empty workbench runs a demo prompt at a click", an_empty_workbench_runs_a_demo_prompt_at_a_click},
    {"a typed prompt is answered", a_typed_prompt_is_answered},
    {"a workload fills the prompt box and Send sends it", a_workload_fills_the_prompt_box_and_send_sends_it},
    {"the cache slider changes the engine's cache", the_cache_slider_changes_the_engines_cache},
    {"double-clicking the cache slider types a value", double_clicking_the_cache_slider_types_a_value},
    {"choosing a preset changes the engine's policy", choosing_a_preset_changes_the_engines_policy},
    {"swapping a component and setting a parameter change the spec",
     swapping_a_component_and_setting_a_parameter_change_the_spec},
    {"a policy is found by typing a part of its name", a_policy_is_found_by_typing_a_part_of_its_name},
    {"HOBBIT's low precisions are counted in Experts", hobbits_low_precisions_are_counted_in_experts},
    {"DAOP's early CPU work is counted from the layer on that is set",
     daops_early_cpu_work_is_counted_from_the_layer_on_that_is_set},
    {"a refused policy says why in Control", a_refused_policy_says_why_in_control},
    {"Control never scrolls at 1280x800", control_never_scrolls},
    {"Space pauses and resumes", space_pauses_and_resumes},
    {"M marks the moment", m_marks_the_moment},
    {"a range dragged in the timeline is what the heatmap counts",
     a_range_dragged_in_the_timeline_is_what_the_heatmap_counts},
    {"wheel and keys zoom and pan, and following ends", wheel_and_keys_zoom_and_pan_and_following_ends},
    {"clicking a heatmap cell shows that expert's history", clicking_a_heatmap_cell_shows_that_experts_history},
    {"choosing a quantity recolours the heatmap", choosing_a_quantity_recolours_the_heatmap},
    {"clicking a token takes the timeline there", clicking_a_token_takes_the_timeline_there},
    {"a saved session opens in the same views and the live run comes back",
     a_saved_session_opens_in_the_same_views_and_the_live_run_comes_back},
    {"a question mark lists the keys", a_question_mark_lists_the_keys},
    {"the theme and the layout answer their keys", the_theme_and_the_layout_answer_their_keys},
};

}  // namespace

void register_workbench_tests(ImGuiTestEngine* engine, const char* category, World& of_category) {
  for (const NamedTest& named : kTests) {
    ImGuiTest* test = ImGuiTestEngine_RegisterTest(engine, category, named.name, __FILE__, __LINE__);
    test->UserData = const_cast<NamedTest*>(&named);
    test->TestFunc = [](ImGuiTestContext* ctx) { static_cast<const NamedTest*>(ctx->Test->UserData)->run(ctx); };
  }
  world = &of_category;
}

}  // namespace expertscope
