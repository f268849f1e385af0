#include "views/workbench.h"

#include <algorithm>

#include "imgui.h"
#include "imgui_internal.h"
#include <fmt/format.h>

#include "profiler/health.h"
#include "views/format.h"
#include "views/policy_choice.h"
#include "views/timeline_panel.h"
#include "views/title_bar.h"
#include "views/widgets.h"

namespace expertscope {
namespace {

constexpr double kRefresh_s = 0.2;  // look.md: live values change at most five times a second
constexpr std::uint64_t kRecentTokens = 32;

// What a command changes, for its marker; "" when it changes nothing that is marked.
std::string change_text(const Command& command) {
  switch (command.kind) {
    case CommandKind::set_policy:
      return "policy → " + command.text;
    case CommandKind::set_component:
      return command.text;
    case CommandKind::set_parameter:
      return fmt::format("{} → {}", command.text, format_significant(command.value));
    case CommandKind::set_cache_ratio:
      return fmt::format("cache ratio → {}", format_ratio(command.value));
    case CommandKind::reset_cache:
      return "cache emptied";
    default:
      return "";
  }
}

}  // namespace

Workbench::Workbench(Hooks hooks, float monitor_scale) : hooks_(std::move(hooks)) {
  theme_.load_fonts(monitor_scale);
  theme_.apply();
}

void Workbench::use_dark_theme(bool dark) {
  theme_.dark = dark;
  theme_.apply();
}

void Workbench::update_numbers(const Trace& trace, const LiveStatus& status, double now_s) {
  refresh_often_ = now_s - refreshed_at_s_ >= kRefresh_s;
  if (refresh_often_) refreshed_at_s_ = now_s;
  refresh_ = !status.live || refresh_often_;
  if (!refresh_) return;
  if (numbers_revision_ == trace.revision() && numbers_.recent.steps > 0) return;
  numbers_revision_ = trace.revision();
  const auto steps = index_.steps.steps();
  numbers_.recent = status.live ? recent_decode_sums(steps, kRecentTokens) : decode_sums(steps);
  numbers_.last_token = recent_decode_sums(steps, 1);
  numbers_.holds_back_parts = numbers_.recent.part_ns;
  numbers_.generated = status.generated;
  // The identities that health checks read the whole session: once every few seconds is often enough.
  if (!status.live || now_s - health_at_s_ >= 5 || trace.health.size() > health_.size()) {
    health_ = health_of(trace);
    if (status.live && !status.ended)
      std::erase_if(health_, [](const HealthNote& note) { return note.code == health_code::kNotEnded; });
    health_at_s_ = now_s;
  }
  numbers_.worst_health = Severity::info;
  numbers_.health_notes = 0;
  for (const HealthNote& note : health_) {
    numbers_.worst_health = std::max(numbers_.worst_health, note.severity);
    numbers_.health_notes += note.severity != Severity::info;
  }
}

void Workbench::update_pending(const LiveStatus& status, const std::vector<Command>& out, std::size_t first_new) {
  if (!counted_ || status.commands_applied < applied_before_) {
    counted_ = true;
    applied_before_ = status.commands_applied;
    commands_sent_ = 0;
    pending_.clear();
  }
  for (std::size_t i = first_new; i < out.size(); ++i) {
    ++commands_sent_;
    if (std::string text = change_text(out[i]); !text.empty()) pending_.push_back({std::move(text), commands_sent_});
  }
  const std::uint64_t applied = status.commands_applied - applied_before_;
  std::erase_if(pending_,
                [&](const PendingChange& change) { return change.command <= applied || !status.error.empty(); });
}

void Workbench::build_layout(unsigned int dockspace) {
  const ImVec2 size = ImGui::GetMainViewport()->WorkSize;
  ImGui::DockBuilderRemoveNode(dockspace);
  ImGui::DockBuilderAddNode(dockspace, ImGuiDockNodeFlags_DockSpace);
  ImGui::DockBuilderSetNodeSize(dockspace, size);
  const float control_width = std::clamp(size.x * 0.19f, theme_.px(292), theme_.px(360));
  ImGuiID rest = 0;
  const ImGuiID control = ImGui::DockBuilderSplitNode(dockspace, ImGuiDir_Left, control_width / size.x, nullptr, &rest);
  ImGuiID below = 0;
  const ImGuiID strips = ImGui::DockBuilderSplitNode(rest, ImGuiDir_Up, 0.295f, nullptr, &below);
  ImGuiID left = 0;
  const ImGuiID right = ImGui::DockBuilderSplitNode(below, ImGuiDir_Right, 0.37f, nullptr, &left);
  ImGuiID timeline = 0, experts = 0;
  const ImGuiID tokens = ImGui::DockBuilderSplitNode(left, ImGuiDir_Down, 0.33f, nullptr, &timeline);
  const ImGuiID sessions = ImGui::DockBuilderSplitNode(right, ImGuiDir_Down, 0.33f, nullptr, &experts);
  ImGui::DockBuilderDockWindow("Control", control);
  ImGui::DockBuilderDockWindow("Strips", strips);
  ImGui::DockBuilderDockWindow("Timeline", timeline);
  ImGui::DockBuilderDockWindow("Experts", experts);
  ImGui::DockBuilderDockWindow("Tokens", tokens);
  ImGui::DockBuilderDockWindow("Sessions", sessions);
  ImGui::DockBuilderDockWindow("Health", sessions);
  ImGui::DockBuilderFinish(dockspace);
  layout_frames_ = 3;  // tabs can be brought to the front once they exist
}

void Workbench::show(const char* window) {
  focus_ = window;
}

void Workbench::act(ViewContext& context, UiAction action) {
  switch (action) {
    case UiAction::pause_or_resume:
      if (!context.status.live || context.status.ended) break;
      if (context.status.paused) timeline_.follow(context);
      context.send(context.status.paused ? CommandKind::resume : CommandKind::pause);
      break;
    case UiAction::step_token:
      if (context.status.live && context.status.paused) context.send(CommandKind::step_token);
      break;
    case UiAction::mark:
      if (context.status.live && !context.status.ended)
        context.send(CommandKind::mark, fmt::format("mark {}", context.trace.marks.size() + 1));
      break;
    case UiAction::focus_prompt:
      show("Control");
      control_.focus_prompt();
      break;
    case UiAction::zoom_in:
      timeline_.zoom(context, 0.8);
      break;
    case UiAction::zoom_out:
      timeline_.zoom(context, 1.25);
      break;
    case UiAction::pan_left:
      timeline_.pan(context, -0.1);
      break;
    case UiAction::pan_right:
      timeline_.pan(context, 0.1);
      break;
    case UiAction::fit:
      timeline_.fit_selection(context);
      break;
    case UiAction::follow:
      timeline_.follow(context);
      break;
    case UiAction::next_event:
      timeline_.step_to_neighbour(context, 1);
      break;
    case UiAction::previous_event:
      timeline_.step_to_neighbour(context, -1);
      break;
    case UiAction::range_from_selection:
      if (selection_.step && *selection_.step < context.trace.steps.size())
        selection_.range =
            TimeRange{context.trace.steps[*selection_.step].start_ns, context.trace.steps[*selection_.step].end_ns};
      break;
    case UiAction::clear_selection:
      if (help_)
        help_ = false;
      else
        selection_.clear();
      break;
    case UiAction::show_control:
      show("Control");
      break;
    case UiAction::show_strips:
      show("Strips");
      break;
    case UiAction::show_timeline:
      show("Timeline");
      break;
    case UiAction::show_experts:
      show("Experts");
      break;
    case UiAction::show_tokens:
      show("Tokens");
      break;
    case UiAction::show_sessions:
      show("Sessions");
      break;
    case UiAction::show_health:
      show("Health");
      break;
    case UiAction::toggle_theme:
      use_dark_theme(!theme_.dark);
      break;
    case UiAction::reset_layout:
      build_layout_ = true;
      break;
    case UiAction::help:
      help_ = !help_;
      break;
  }
}

void Workbench::handle_keys(ViewContext& context) {
  const ImGuiIO& io = ImGui::GetIO();
  if (io.WantTextInput || ImGui::IsAnyItemActive() ||
      ImGui::IsPopupOpen("", ImGuiPopupFlags_AnyPopupId | ImGuiPopupFlags_AnyPopupLevel))
    return;
  for (const UiCommand& command : ui_commands()) {
    // Space presses the button that has the keyboard's focus, when there is one.
    if (command.key == ImGuiKey_Space && io.NavVisible) continue;
    const auto key = static_cast<ImGuiKey>(command.key & ~ImGuiMod_Mask_);
    if (io.KeyMods == (command.key & ImGuiMod_Mask_) && ImGui::IsKeyPressed(key, command.repeats))
      act(context, command.action);
  }
}

void Workbench::draw_help() {
  if (!help_) return;
  const ImGuiViewport& viewport = *ImGui::GetMainViewport();
  ImGui::SetNextWindowPos(viewport.GetCenter(), ImGuiCond_Appearing, {0.5f, 0.5f});
  ImGui::SetNextWindowFocus();
  if (ImGui::Begin("Keys and gestures", &help_,
                   ImGuiWindowFlags_AlwaysAutoResize | ImGuiWindowFlags_NoCollapse | ImGuiWindowFlags_NoDocking |
                       ImGuiWindowFlags_NoSavedSettings)) {
    if (ImGui::BeginTable("##help", 2, ImGuiTableFlags_SizingFixedFit)) {
      ImGui::TableSetupColumn("keys", 0, theme_.px(360));
      ImGui::TableNextColumn();
      const char* group = "";
      for (const UiCommand& command : ui_commands()) {
        if (std::string_view(group) != command.group) heading(theme_, group = command.group);
        text_mono(theme_, fmt::format("{:<18}", key_text(command.key)));
        ImGui::SameLine();
        ImGui::TextUnformatted(command.name);
      }
      ImGui::TableNextColumn();
      heading(theme_, "Mouse, in Timeline and Strips");
      for (const MouseGesture& gesture : mouse_gestures()) {
        text_strong(theme_, gesture.gesture);
        text_dim(theme_, gesture.name);
      }
      ImGui::EndTable();
    }
  }
  ImGui::End();
}

void Workbench::draw(const Trace& trace, const LiveStatus& status, double now_s, std::vector<Command>& out) {
  if (index_.update(trace)) {
    selection_ = {};
    numbers_ = {};
    health_at_s_ = refreshed_at_s_ = -1e9;
    counted_ = false;
  }
  if (const std::string& policy = policy_in_force(trace, status); policy != judged_policy_) {
    judged_policy_ = policy;
    inexact_policy_ = is_inexact_policy(policy);
  }
  update_numbers(trace, status, now_s);
  numbers_.inexact = inexact_policy_ || (!status.live && index_.inexact.total().any());
  const std::size_t first_new = out.size();
  ViewContext context{trace,      index_, status, numbers_,       hooks_,  pending_,
                      selection_, theme_, out,    refresh_often_, refresh_};
  handle_keys(context);

  const TitleActions title = draw_title_bar(context);
  if (title.show_health) show("Health");
  if (title.show_help) help_ = true;
  if (title.toggle_theme) use_dark_theme(!theme_.dark);
  if (!title.show_window.empty()) focus_ = title.show_window;
  if (title.reset_layout) build_layout_ = true;

  // The number is the layout's version: an arrangement that was saved for another one is not used.
  const ImGuiID dockspace = ImHashStr("workbench layout 1");
  if (build_layout_ || !ImGui::DockBuilderGetNode(dockspace)) {
    build_layout(dockspace);
    build_layout_ = false;
  }
  ImGui::DockSpaceOverViewport(dockspace, ImGui::GetMainViewport(),
                               ImGuiDockNodeFlags_NoWindowMenuButton | ImGuiDockNodeFlags_NoCloseButton);

  const auto window = [&](const char* name, auto&& content) {
    if (focus_ == name) ImGui::SetNextWindowFocus();
    if (ImGui::Begin(name, nullptr, ImGuiWindowFlags_NoCollapse)) content();
    ImGui::End();
  };
  window("Control", [&] { control_.draw(context); });
  window("Strips", [&] { strips_.draw(context); });
  window("Timeline", [&] { timeline_.draw(context); });
  window("Experts", [&] { experts_.draw(context); });
  window("Tokens", [&] { tokens_.draw(context); });
  window("Sessions", [&] { sessions_.draw(context, now_s); });
  window("Health", [&] { health_view_.draw(context, health_, window_status_); });
  focus_.clear();
  if (layout_frames_ > 0) {
    --layout_frames_;
    if (layout_frames_ <= 1) show(layout_frames_ == 1 ? "Sessions" : "Control");
  }
  draw_help();

  update_pending(status, out, first_new);
  another_frame_ =
      layout_frames_ > 0 || !focus_.empty() || selection_.cursor != selection_.next_cursor || out.size() > first_new;
  selection_.cursor = selection_.next_cursor;
  selection_.next_cursor.reset();
}

}  // namespace expertscope
