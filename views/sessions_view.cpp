#include "views/sessions_view.h"

#include "imgui.h"
#include "misc/cpp/imgui_stdlib.h"
#include <fmt/format.h>

#include "views/format.h"
#include "views/policy_choice.h"
#include "views/widgets.h"

namespace expertscope {

void SessionsView::open(ViewContext& context, const SessionSummary& session) {
  if (context.hooks.open_session) error_ = context.hooks.open_session(session.path);
}

void SessionsView::draw_row(ViewContext& context, const SessionSummary& session) {
  const Theme& theme = context.theme;
  const bool shown = session.path == context.status.session_path;
  ImGui::TableNextRow();
  ImGui::TableNextColumn();
  ImGui::PushID(session.path.c_str());
  if (ImGui::Selectable("##row", shown,
                        ImGuiSelectableFlags_SpanAllColumns | ImGuiSelectableFlags_AllowOverlap |
                            ImGuiSelectableFlags_AllowDoubleClick,
                        {0, ImGui::GetTextLineHeight() * 2 + theme.px(4)}) &&
      ImGui::IsMouseDoubleClicked(ImGuiMouseButton_Left) && session.problem.empty())
    open(context, session);
  if (ImGui::IsItemHovered(ImGuiHoveredFlags_ForTooltip))
    tooltip(theme, session.name,
            {{"model", session.model},
             {"machine", session.machine},
             {"policy", session.policy},
             {"recorded", session.date},
             {"size", format_bytes(static_cast<double>(session.file_bytes))},
             {"note", session.note.empty() ? "-" : session.note}});
  if (ImGui::BeginPopupContextItem("##menu")) {
    if (ImGui::MenuItem("Open", nullptr, false, session.problem.empty())) open(context, session);
    const auto edit = [&](const char* label, Edit what, std::string text) {
      if (!ImGui::MenuItem(label)) return;
      edit_ = what;
      edited_path_ = session.path;
      edited_name_ = session.name;
      text_ = std::move(text);
      open_editor_ = true;
    };
    if (context.hooks.rename_session) edit("Rename…", Edit::name, session.name);
    if (context.hooks.note_session) edit("Note…", Edit::note, session.note);
    if (context.hooks.trash_session && !session.recording) edit("Delete…", Edit::trash, "");
    ImGui::EndPopup();
  }
  ImGui::SameLine(0, 0);
  ImGui::BeginGroup();
  text_strong(theme, fitting(theme, theme.strong, 14, session.name, ImGui::GetContentRegionAvail().x));
  ImGui::PushFont(nullptr, theme.small_font());
  const auto put = [&](const std::string& text) {
    text_dim(theme, fitting(theme, theme.sans, theme.small_font(), text, ImGui::GetContentRegionAvail().x));
  };
  if (session.problem.empty()) {
    const float room = ImGui::GetContentRegionAvail().x;
    const bool inexact = inexact_[session.policy];
    text_dim(theme,
             fitting(theme, theme.sans, theme.small_font(), session.policy, room - (inexact ? theme.px(46) : 0)));
    if (inexact) {
      ImGui::SameLine(0, theme.px(6));
      ImGui::PushStyleColor(ImGuiCol_Text, context.colors().changed);
      ImGui::TextUnformatted("inexact");
      ImGui::PopStyleColor();
    }
    if (!session.note.empty()) {
      ImGui::SameLine(0, theme.px(6));
      put("· " + session.note);
    }
  } else {
    put(session.problem);
  }
  ImGui::PopFont();
  ImGui::EndGroup();
  ImGui::TableNextColumn();
  if (session.problem.empty()) {
    text_mono(theme, format_tokens_per_s(session.tokens_per_s));
    ImGui::PushFont(nullptr, theme.small_font());
    text_dim(theme, fmt::format("hit {}", format_percent(session.hit_rate)));
    ImGui::PopFont();
  }
  ImGui::TableNextColumn();
  ImGui::Dummy({0, theme.px(3)});
  if (session.recording)
    text_dim(theme, "recording");
  else if (!session.problem.empty())
    text_dim(theme, "unreadable");
  else if (shown)
    text_dim(theme, "shown");
  else if (ImGui::SmallButton("Open"))
    open(context, session);
  ImGui::PopID();
}

void SessionsView::draw_editor(ViewContext& context) {
  if (open_editor_) ImGui::OpenPopup("##edit_session");
  open_editor_ = false;
  if (!ImGui::BeginPopup("##edit_session")) return;
  const char* title = edit_ == Edit::name ? "Rename" : edit_ == Edit::note ? "Note on" : "Move to the trash:";
  text_strong(context.theme, fmt::format("{} {}", title, edited_name_));
  bool confirmed = false;
  if (edit_ != Edit::trash) {
    if (ImGui::IsWindowAppearing()) ImGui::SetKeyboardFocusHere();
    ImGui::SetNextItemWidth(context.theme.px(320));
    confirmed = ImGui::InputText("##text", &text_, ImGuiInputTextFlags_EnterReturnsTrue);
  }
  confirmed |= ImGui::Button(edit_ == Edit::trash ? "Move to trash" : "Save");
  ImGui::SameLine();
  if (ImGui::Button("Cancel") || confirmed) {
    if (confirmed && edit_ == Edit::name) error_ = context.hooks.rename_session(edited_path_, text_);
    if (confirmed && edit_ == Edit::note) error_ = context.hooks.note_session(edited_path_, text_);
    if (confirmed && edit_ == Edit::trash) error_ = context.hooks.trash_session(edited_path_);
    refresh();
    ImGui::CloseCurrentPopup();
  }
  ImGui::EndPopup();
}

void SessionsView::draw(ViewContext& context, double now_s) {
  const Theme& theme = context.theme;
  if (context.hooks.list_sessions && now_s - listed_at_s_ >= 2) {
    sessions_ = context.hooks.list_sessions();
    if (sessions_) {
      listed_at_s_ = now_s;
      for (const SessionSummary& session : *sessions_)
        if (!inexact_.contains(session.policy)) inexact_[session.policy] = is_inexact_policy(session.policy);
    }
  }
  if (!error_.empty()) {
    ImGui::PushStyleColor(ImGuiCol_Text, context.colors().loss);
    ImGui::TextWrapped("%s", error_.c_str());
    ImGui::PopStyleColor();
    if (ImGui::SmallButton("Dismiss")) error_.clear();
  }
  if (!context.status.live && context.hooks.has_live_run && context.hooks.show_live_run)
    if (icon_button(theme, "##back", Icon::play, "Back to the live run", 0, true)) context.hooks.show_live_run();
  if (!sessions_) return;
  if (sessions_->empty()) {
    empty_state(theme, "No saved sessions", "Every run is recorded to a file and listed here when it has begun.",
                nullptr);
    return;
  }
  if (ImGui::BeginTable("##sessions", 3,
                        ImGuiTableFlags_ScrollY | ImGuiTableFlags_BordersInnerH | ImGuiTableFlags_PadOuterX)) {
    ImGui::TableSetupColumn("session", ImGuiTableColumnFlags_WidthStretch);
    ImGui::TableSetupColumn("speed", ImGuiTableColumnFlags_WidthFixed, theme.px(92));
    ImGui::TableSetupColumn("", ImGuiTableColumnFlags_WidthFixed, theme.px(66));
    ImGuiListClipper clipper;
    clipper.Begin(static_cast<int>(sessions_->size()));
    while (clipper.Step())
      for (int i = clipper.DisplayStart; i < clipper.DisplayEnd; ++i)
        draw_row(context, (*sessions_)[static_cast<std::size_t>(i)]);
    ImGui::EndTable();
  }
  draw_editor(context);
}

}  // namespace expertscope
