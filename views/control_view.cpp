#include "views/control_view.h"

#include <algorithm>
#include <cmath>

#include "imgui.h"
#include "misc/cpp/imgui_stdlib.h"
#include <fmt/format.h>

#include "views/describe.h"
#include "views/format.h"
#include "views/part_bar.h"
#include "views/timeline_panel.h"

namespace expertscope {

std::string cache_meaning(const LiveStatus& status, double ratio) {
  const auto slots = static_cast<std::uint32_t>(ratio * status.slots_at_ratio_1 + 1e-6);
  const double per_layer = status.layers > 0 ? static_cast<double>(slots) / status.layers : 0;
  const std::string each = std::fabs(per_layer - std::round(per_layer)) < 0.005 ? fmt::format("{:.0f}", per_layer)
                                                                                : fmt::format("{:.1f}", per_layer);
  return fmt::format("{} of {} per layer, {} slots, {}", each, status.experts, slots,
                     format_bytes(ratio * static_cast<double>(status.cache_bytes_at_ratio_1)));
}

void ControlView::draw_model(ViewContext& context) {
  const RunInfo& info = context.trace.info;
  if (!context.trace.started) return;
  ImGui::PushFont(nullptr, context.theme.small_font());
  text_dim(context.theme, fmt::format("{} layers × {} experts, top {}, expert {}", info.layers, info.experts,
                                      info.top_k, format_bytes(static_cast<double>(info.expert_bytes))));
  ImGui::PopFont();
}

void ControlView::draw_transport(ViewContext& context) {
  const Theme& theme = context.theme;
  const LiveStatus& status = context.status;
  ImGui::BeginDisabled(status.ended);
  const float gap = ImGui::GetStyle().ItemSpacing.x;
  const float room = ImGui::GetContentRegionAvail().x, small = theme.px(32);
  const float half = std::floor((room - small * 2 - gap * 3) / 2);
  if (status.paused) {
    if (icon_button(theme, "##run", Icon::play, "Resume", half, true)) context.send(CommandKind::resume);
  } else {
    if (icon_button(theme, "##run", Icon::pause, "Pause", half)) context.send(CommandKind::pause);
  }
  if (ImGui::IsItemHovered(ImGuiHoveredFlags_ForTooltip))
    ImGui::SetTooltip("%s between two tokens (Space)", status.paused ? "Go on" : "Stop");
  ImGui::SameLine();
  ImGui::BeginDisabled(!status.paused);
  if (icon_button(theme, "##step", Icon::step, "Step", half)) context.send(CommandKind::step_token);
  ImGui::EndDisabled();
  if (ImGui::IsItemHovered(ImGuiHoveredFlags_ForTooltip | ImGuiHoveredFlags_AllowWhenDisabled))
    ImGui::SetTooltip("One token, while paused (T)");
  ImGui::SameLine();
  if (icon_button(theme, "##mark", Icon::flag, "", small))
    context.send(CommandKind::mark, fmt::format("mark {}", context.trace.marks.size() + 1));
  if (ImGui::IsItemHovered(ImGuiHoveredFlags_ForTooltip)) ImGui::SetTooltip("Mark this moment in every chart (M)");
  ImGui::SameLine();
  if (icon_button(theme, "##reset", Icon::reset, "", small)) context.send(CommandKind::reset_cache);
  if (ImGui::IsItemHovered(ImGuiHoveredFlags_ForTooltip)) ImGui::SetTooltip("Empty the expert cache");
  ImGui::EndDisabled();
}

void ControlView::send_prompt(ViewContext& context) {
  if (prompt_.empty()) return;
  context.send(CommandKind::submit_prompt, prompt_, tokens_);
  if (context.status.paused) context.send(CommandKind::resume);
}

void ControlView::draw_prompt(ViewContext& context) {
  const Theme& theme = context.theme;
  if (tokens_ <= 0) tokens_ = context.hooks.default_tokens;
  heading(theme, "PROMPT");
  if (context.status.prompts_waiting > 0) {
    ImGui::SameLine();
    ImGui::PushFont(nullptr, theme.small_font());
    text_dim(theme, fmt::format("{} waiting", context.status.prompts_waiting));
    ImGui::PopFont();
  }
  if (focus_prompt_) ImGui::SetKeyboardFocusHere();
  focus_prompt_ = false;
  if (ImGui::InputTextMultiline("##prompt", &prompt_,
                                {-FLT_MIN, ImGui::GetTextLineHeight() * 3 + ImGui::GetStyle().FramePadding.y * 2},
                                ImGuiInputTextFlags_WordWrap | ImGuiInputTextFlags_CtrlEnterForNewLine |
                                    ImGuiInputTextFlags_EnterReturnsTrue))
    send_prompt(context);
  if (prompt_.empty() && !ImGui::IsItemActive()) {
    const ImVec2 a = ImGui::GetItemRectMin();
    draw_text(*ImGui::GetWindowDrawList(), theme, theme.sans, 14,
              {a.x + ImGui::GetStyle().FramePadding.x, a.y + ImGui::GetStyle().FramePadding.y},
              context.colors().text_faint, "Type a prompt, Enter sends it");
  }
  const float gap = ImGui::GetStyle().ItemInnerSpacing.x, send = theme.px(62), count = theme.px(78);
  ImGui::SetNextItemWidth(ImGui::GetContentRegionAvail().x - send - count - gap * 2);
  if (ImGui::BeginCombo("##workload", "Workload", ImGuiComboFlags_HeightLarge)) {
    for (const Workload& workload : context.hooks.workloads) {
      ImGui::SeparatorText(workload.name.c_str());
      for (std::size_t i = 0; i < workload.prompts.size(); ++i) {
        ImGui::PushID(static_cast<int>(i) + static_cast<int>(&workload - context.hooks.workloads.data()) * 1000);
        std::string line = workload.prompts[i].substr(0, workload.prompts[i].find('\n'));
        if (ImGui::Selectable(fitting(theme, theme.sans, 14, line, theme.px(420)).c_str()))
          prompt_ = workload.prompts[i];
        ImGui::PopID();
      }
    }
    ImGui::EndCombo();
  }
  ImGui::SameLine(0, gap);
  ImGui::SetNextItemWidth(count);
  ImGui::InputInt("##tokens", &tokens_, 0, 0);
  tokens_ = std::clamp(tokens_, 1, 1'000'000);
  if (ImGui::IsItemHovered(ImGuiHoveredFlags_ForTooltip)) ImGui::SetTooltip("Tokens to generate");
  ImGui::SameLine(0, gap);
  ImGui::BeginDisabled(prompt_.empty() || context.status.ended);
  if (ImGui::Button("Send", {send, 0})) send_prompt(context);
  ImGui::EndDisabled();
}

void ControlView::draw_policy(ViewContext& context, float spare) {
  const Theme& theme = context.theme;
  heading(theme, "POLICY");
  const PolicySpec* spec = policy_.spec_of(context.status.policy_spec);
  if (policy_.inexact()) {
    ImGui::PushFont(nullptr, theme.small_font());
    ImGui::SameLine();
    ImGui::PushStyleColor(ImGuiCol_Text, context.colors().changed);
    ImGui::TextUnformatted("inexact");
    ImGui::PopStyleColor();
    if (ImGui::IsItemHovered(ImGuiHoveredFlags_ForTooltip))
      ImGui::SetTooltip("This policy may change what the model answers.\nTokens that it changed are underlined.");
    ImGui::PopFont();
  }
  policy_.draw_presets(context, spec);
  if (!spec) return;
  if (policy_.components_height(theme, *spec) <= spare) {
    policy_.draw_components(context, *spec);
    return;
  }
  // In a low window the components fold into a line with a popup beside it, so that Control never scrolls.
  const float button = ImGui::CalcTextSize("Components").x + ImGui::GetStyle().FramePadding.x * 2;
  ImGui::PushFont(nullptr, theme.small_font());
  ImGui::AlignTextToFramePadding();
  const std::string summary = PolicyEditor::summary(*spec);
  text_dim(theme, fitting(theme, theme.sans, theme.small_font(), summary,
                          ImGui::GetContentRegionAvail().x - button - theme.px(8)));
  ImGui::PopFont();
  if (ImGui::IsItemHovered(ImGuiHoveredFlags_ForTooltip)) ImGui::SetTooltip("%s", summary.c_str());
  ImGui::SameLine(ImGui::GetCursorPosX() + ImGui::GetContentRegionAvail().x - button);
  if (ImGui::Button("Components")) ImGui::OpenPopup("##components");
  ImGui::SetNextWindowSize({theme.px(340), 0});
  if (ImGui::BeginPopup("##components")) {
    text_strong(theme, "Components of " + spec->preset);
    policy_.draw_components(context, *spec);
    ImGui::EndPopup();
  }
}

void ControlView::draw_cache(ViewContext& context) {
  const LiveStatus& status = context.status;
  heading(context.theme, "EXPERT CACHE");
  const double shown = cache_.dragging ? cache_.value : status.cache_ratio;
  if (value_slider(context.theme, "##cache_ratio", cache_, 0, 1, status.cache_ratio,
                   context.trace.started ? context.trace.info.cache_ratio : 0.25,
                   fmt::format("cache ratio {}", format_ratio(shown)).c_str()))
    context.send(CommandKind::set_cache_ratio, "", std::round(cache_.value * 1000) / 1000);
  if (ImGui::IsItemHovered(ImGuiHoveredFlags_ForTooltip))
    ImGui::SetTooltip(
        "Share of the experts' bytes that fits on the GPU.\nDouble-click types a value, right-click goes back to the "
        "start's.");
  text_wrapped_dim(context.theme, cache_meaning(status, shown));
}

void ControlView::draw_speed(ViewContext& context) {
  if (!context.status.emulated) return;
  const Theme& theme = context.theme;
  const bool fastest = context.status.speed <= 0;
  const float button = theme.px(48);
  const double shown = speed_.dragging ? speed_.value : fastest ? 100 : context.status.speed;
  if (ImGui::BeginTable("##speed_row", 2, ImGuiTableFlags_NoPadOuterX | ImGuiTableFlags_NoPadInnerX)) {
    ImGui::TableSetupColumn("slider", ImGuiTableColumnFlags_WidthStretch);
    ImGui::TableSetupColumn("max", ImGuiTableColumnFlags_WidthFixed, button + ImGui::GetStyle().ItemInnerSpacing.x);
    ImGui::TableNextColumn();
    if (value_slider(theme, "##speed", speed_, 0.1, 100, fastest ? 100 : context.status.speed, 1,
                     fastest && !speed_.dragging ? "as fast as it computes"
                                                 : fmt::format("speed {}×", format_ratio(shown)).c_str(),
                     true))
      context.send(CommandKind::set_speed, "", speed_.value);
    if (ImGui::IsItemHovered(ImGuiHoveredFlags_ForTooltip))
      ImGui::SetTooltip("Modelled seconds for each second of yours. Changes nothing that is measured.");
    ImGui::TableNextColumn();
    ImGui::SetCursorPosX(ImGui::GetCursorPosX() + ImGui::GetStyle().ItemInnerSpacing.x);
    if (ImGui::Button(fastest ? "1×" : "Max", {button, 0})) context.send(CommandKind::set_speed, "", fastest ? 1 : 0);
    ImGui::EndTable();
  }
}

void ControlView::draw_messages(ViewContext& context) {
  const Theme& theme = context.theme;
  const LiveStatus& status = context.status;
  const float top = ImGui::GetCursorPosY();
  if (!status.error.empty() && status.error != dismissed_error_) {
    ImGui::PushStyleColor(ImGuiCol_ChildBg, mix(context.colors().panel, context.colors().loss, 0.22));
    if (ImGui::BeginChild("##error", {0, 0}, ImGuiChildFlags_AutoResizeY | ImGuiChildFlags_AlwaysUseWindowPadding)) {
      ImGui::TextWrapped("%s", status.error.c_str());
      if (ImGui::SmallButton("Dismiss")) dismissed_error_ = status.error;
    }
    ImGui::EndChild();
    ImGui::PopStyleColor();
  } else if (!context.pending.empty()) {
    text_wrapped_dim(theme, context.pending.back().text + ": at the next token");
  } else if (!status.last_change.empty()) {
    std::string text = status.last_change;
    if (const std::size_t arrow = text.find("->"); arrow != std::string::npos) text.replace(arrow, 2, "→");
    text_wrapped_dim(theme, text);
  }
  // Two lines are kept for it, so that nothing below jumps when something is said.
  const float kept = top + theme.px(theme.small_font() * 2.5) - ImGui::GetCursorPosY();
  if (kept > 0) ImGui::Dummy({1, std::max(0.0f, kept - ImGui::GetStyle().ItemSpacing.y)});
}

void ControlView::draw_attribution(ViewContext& context) {
  const Theme& theme = context.theme;
  const auto summaries = context.index.steps.steps();
  const bool chosen = context.selection.step && *context.selection.step < summaries.size();
  StepSums sums = context.numbers.last_token;
  if (chosen) {
    sums = {};
    sums.add(summaries[*context.selection.step]);
  }
  heading(theme, "WHERE THE TIME GOES");
  const std::string of = chosen ? step_name(context.trace, *context.selection.step) : "last token";
  const std::string took = sums.steps > 0 ? fmt::format("{}, {}", of, format_duration(sums.time_ns)) : of;
  ImGui::PushFont(nullptr, theme.small_font());
  ImGui::SameLine(ImGui::GetCursorPosX() + ImGui::GetContentRegionAvail().x - ImGui::CalcTextSize(took.c_str()).x);
  text_dim(theme, took);
  ImGui::PopFont();
  const Bottleneck held = bottleneck(chosen ? sums.part_ns : context.numbers.holds_back_parts);
  if (!held.name.empty()) {
    text_strong(theme, "Bound by " +
                           std::string(held.name == "GPU" || held.name == "link" || held.name == "host" ? "the " : "") +
                           held.name);
    ImGui::SameLine(0, theme.px(6));
    ImGui::PushFont(nullptr, theme.small_font());
    text_dim(theme, fmt::format("{} {}", format_percent(held.share), held.detail));
    ImGui::PopFont();
  }
  part_bar(theme, sums.part_ns, ImGui::GetContentRegionAvail().x, theme.px(14));
  part_rows(theme, sums.part_ns, 1, false);
}

void ControlView::draw_recorded(ViewContext& context) {
  const Theme& theme = context.theme;
  const RunInfo& info = context.trace.info;
  if (context.hooks.has_live_run && context.hooks.show_live_run)
    if (icon_button(theme, "##live", Icon::play, "Back to the live run", ImGui::GetContentRegionAvail().x, true))
      context.hooks.show_live_run();
  if (!context.trace.started) return;
  heading(theme, "SAVED SESSION");
  const InexactCounts& inexact = context.index.inexact.total();
  const QualityIndex::Sums& quality = context.index.quality.total();
  TooltipLines facts = {
      {"policy", info.policy_spec},
      {"cache ratio", format_ratio(info.cache_ratio)},
      {"cache", fmt::format("{} slots, {}", info.slots, format_bytes(static_cast<double>(info.cache_bytes)))},
      {"machine", info.profile_name.empty() ? info.machine_kind : info.profile_name},
      {"cost shape", info.cost_shape}};
  if (inexact.any()) facts.emplace_back("inexact", inexact_text(inexact));
  if (quality.shadowed > 0)
    facts.insert(facts.end(), {{"KL to exact", format_significant(quality.kl_mean()) + " nats a token"},
                               {"best token", format_percent(quality.agreement()) + " as exact"}});
  name_value_rows(theme, "##facts", facts);
  heading(theme, "CHANGES");
  if (context.trace.epochs.size() <= 1) {
    text_wrapped_dim(theme, "None: one policy and cache size from start to end.");
  } else if (ImGui::BeginTable(
                 "##changes", 2, ImGuiTableFlags_SizingFixedFit | ImGuiTableFlags_ScrollY | ImGuiTableFlags_RowBg,
                 {0,
                  std::min(theme.px(170), static_cast<float>(context.trace.epochs.size()) *
                                                  (ImGui::GetTextLineHeight() + ImGui::GetStyle().CellPadding.y * 2) +
                                              1)})) {
    ImGui::TableSetupColumn("token");
    ImGui::TableSetupColumn("change", ImGuiTableColumnFlags_WidthStretch);
    for (const EpochRecord& epoch : context.trace.epochs) {
      ImGui::TableNextRow();
      ImGui::TableNextColumn();
      ImGui::PushID(static_cast<int>(epoch.epoch));
      if (ImGui::TextLink(fmt::format("token {}", epoch.at_token).c_str()) && epoch.step < context.trace.steps.size())
        context.selection.look_at({context.trace.steps[epoch.step].start_ns, context.trace.steps[epoch.step].end_ns},
                                  context.session());
      ImGui::PopID();
      ImGui::TableNextColumn();
      ImGui::PushTextWrapPos(0);
      const std::string text = epoch_text(epoch);
      ImGui::TextUnformatted(text.c_str());
      ImGui::PopTextWrapPos();
    }
    ImGui::EndTable();
  }
  heading(theme, "DECODE");
  const StepSums& all = context.numbers.recent;
  name_value_rows(theme, "##decode",
                  {{"tokens", format_count(all.tokens)},
                   {"speed", format_tokens_per_s(all.tokens_per_s())},
                   {"hit rate", format_percent(all.hit_rate())},
                   {"link", format_rate(all.link_bytes_per_s())},
                   {"stall", format_duration(static_cast<TimeNs>(all.stall_ns_per_token())) + " per token"}});
}

void ControlView::draw(ViewContext& context) {
  draw_model(context);
  if (!context.status.live) {
    draw_recorded(context);
  } else {
    const float room = ImGui::GetContentRegionAvail().y;
    const float top = ImGui::GetCursorPosY();
    draw_transport(context);
    draw_prompt(context);
    const float before = ImGui::GetCursorPosY();
    draw_policy(context, room - fixed_height_);
    const float policy = ImGui::GetCursorPosY() - before;
    draw_cache(context);
    draw_speed(context);
    draw_messages(context);
    if (!context.empty()) draw_attribution(context);
    // Preset chooser and heading count as fixed; the components get what is left.
    const float chooser =
        ImGui::GetFrameHeightWithSpacing() + ImGui::GetTextLineHeightWithSpacing() + context.theme.px(2);
    fixed_height_ = ImGui::GetCursorPosY() - top - policy + chooser;
    return;
  }
  if (!context.empty()) draw_attribution(context);
}

}  // namespace expertscope
