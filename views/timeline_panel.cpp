#include "views/timeline_panel.h"

#include <algorithm>

#include <fmt/format.h>

#include "views/describe.h"
#include "views/format.h"
#include "views/part_bar.h"
#include "views/timeline_draw.h"
#include "views/widgets.h"

namespace expertscope {
namespace {

double share(std::uint64_t part, std::uint64_t whole) {
  return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0;
}

// Name and value pairs in columns of equal width, in small type.
void columns_of(const Theme& theme, const TooltipLines& lines, int columns) {
  ImGui::PushStyleVar(ImGuiStyleVar_CellPadding, ImVec2{theme.px(2), 0});
  ImGui::PushFont(nullptr, theme.small_font());
  if (ImGui::BeginTable("##columns", columns, ImGuiTableFlags_SizingStretchSame)) {
    const std::size_t rows = (lines.size() + static_cast<std::size_t>(columns) - 1) / static_cast<std::size_t>(columns);
    float names = 0;
    for (const auto& [name, value] : lines)
      names = std::max(names, text_size(theme, theme.sans, theme.small_font(), name).x);
    for (std::size_t row = 0; row < rows; ++row) {
      ImGui::TableNextRow();
      for (std::size_t i = row; i < lines.size(); i += rows) {
        ImGui::TableNextColumn();
        const float x = ImGui::GetCursorPosX(), room = ImGui::GetContentRegionAvail().x;
        text_dim(theme, lines[i].first);
        ImGui::SameLine();
        ImGui::SetCursorPosX(x + names + theme.px(8));
        ImGui::PushFont(theme.mono, theme.small_font());
        ImGui::TextUnformatted(
            fitting(theme, theme.mono, theme.small_font(), lines[i].second, room - names - theme.px(8)).c_str());
        ImGui::PopFont();
      }
    }
    ImGui::EndTable();
  }
  ImGui::PopFont();
  ImGui::PopStyleVar();
}

std::pair<std::string, std::string> inexact_line(const ExpertCounts& counts) {
  InexactCounts inexact;
  inexact.skipped = static_cast<std::uint32_t>(counts.skipped);
  inexact.substituted = static_cast<std::uint32_t>(counts.substituted);
  inexact.early = static_cast<std::uint32_t>(counts.cpu_early);
  inexact.low_precision = static_cast<std::uint32_t>(counts.low_precision);
  return {"inexact", inexact.any() ? inexact_text(inexact) : "none"};
}

void draw_range(ViewContext& context, RangeStatistics& statistics) {
  const Theme& theme = context.theme;
  Selection& selection = context.selection;
  const TimeRange range = *selection.range;
  text_strong(theme, fmt::format("Range {}", format_duration(width_ns(range))));
  ImGui::SameLine();
  text_dim(theme, fmt::format("from {}", format_axis_time(range.begin_ns, std::max<TimeNs>(1, width_ns(range) / 100))));
  ImGui::SameLine();
  if (ImGui::SmallButton("Zoom")) selection.look_at(range, context.session());
  ImGui::SameLine();
  if (ImGui::SmallButton("Clear")) {
    selection.range.reset();
    return;
  }
  const bool dragged = ImGui::IsMouseDown(ImGuiMouseButton_Left);
  const RangeValues& v = statistics.of(context.trace, context.index, range, context.refresh_often || !dragged);
  part_bar(theme, v.parts.ns, ImGui::GetContentRegionAvail().x, theme.px(10));
  columns_of(
      theme,
      {{"decoded", fmt::format("{} {}", format_count(v.decode.tokens), v.decode.tokens == 1 ? "token" : "tokens")},
       {"speed", format_tokens_per_s(v.decode.tokens_per_s())},
       {"token p50, p99", fmt::format("{}, {}", format_duration(v.decode.p50_ns), format_duration(v.decode.p99_ns))},
       {"hits", fmt::format("{} of {}, {}", format_count(v.experts.hits), format_count(v.experts.demands),
                            format_percent(v.experts.hit_rate()))},
       {"late, misses", fmt::format("{}, {}", format_count(v.experts.late), format_count(v.experts.misses))},
       {"on the CPU", format_percent(share(v.experts.cpu + v.experts.cpu_early, v.experts.demands))},
       inexact_line(v.experts),
       {"copied",
        fmt::format("{} in {}", format_bytes(static_cast<double>(v.transfers.bytes)), format_count(v.transfers.count))},
       {"demand, prefetch", fmt::format("{}, {}", format_bytes(static_cast<double>(v.transfers.demand_bytes)),
                                        format_bytes(static_cast<double>(v.transfers.prefetch_bytes)))},
       {"wasted", format_bytes(static_cast<double>(v.transfers.wasted_prefetch_bytes))},
       {"copies hidden", format_percent(v.overlapped.copy_hidden_share())},
       {"GPU busy", format_percent(v.overlapped.gpu_busy_share())}},
      ImGui::GetContentRegionAvail().x > theme.px(760)   ? 4
      : ImGui::GetContentRegionAvail().x > theme.px(520) ? 3
                                                         : 2);
}

void draw_pinned(ViewContext& context) {
  const Description d = describe_item(context, *context.selection.pinned);
  text_strong(context.theme, d.title.empty() ? "Gone" : d.title);
  if (d.step) {
    ImGui::SameLine();
    step_link(context, *d.step);
  }
  if (d.expert) {
    ImGui::SameLine();
    expert_link(context, *d.expert);
  }
  ImGui::SameLine();
  if (ImGui::SmallButton("Unpin")) {
    context.selection.pinned.reset();
    return;
  }
  columns_of(context.theme, d.lines, 2);
}

}  // namespace

float timeline_panel_height(const ViewContext& context) {
  if (!context.selection.range && !context.selection.pinned) return 0;
  return context.theme.px(118);
}

void draw_timeline_panel(ViewContext& context, RangeStatistics& statistics, bool& pinned_in_front) {
  const bool range = context.selection.range.has_value(), pinned = context.selection.pinned.has_value();
  if (!range && !pinned) return;
  ImGui::Separator();
  if (range && pinned && ImGui::GetContentRegionAvail().x > context.theme.px(900)) {
    if (!ImGui::BeginTable("##panel", 2, ImGuiTableFlags_SizingStretchSame | ImGuiTableFlags_BordersInnerV)) return;
    ImGui::TableNextColumn();
    draw_range(context, statistics);
    ImGui::TableNextColumn();
    draw_pinned(context);
    ImGui::EndTable();
    return;
  }
  const bool show_pinned = pinned && (!range || pinned_in_front);
  if (range && pinned) {
    if (ImGui::SmallButton(show_pinned ? "Show range" : "Show pinned")) pinned_in_front = !pinned_in_front;
    ImGui::SameLine();
  }
  if (show_pinned)
    draw_pinned(context);
  else
    draw_range(context, statistics);
}

void step_link(ViewContext& context, std::uint32_t step) {
  if (!ImGui::TextLink(step_name(context.trace, step).c_str())) return;
  context.selection.step = step;
  if (step < context.trace.steps.size())
    context.selection.look_at({context.trace.steps[step].start_ns, context.trace.steps[step].end_ns},
                              context.session());
}

void expert_link(ViewContext& context, ExpertId id) {
  if (ImGui::TextLink(expert_name(id).c_str())) context.selection.expert = id;
}

bool run_demo_prompt(ViewContext& context) {
  if (context.hooks.workloads.empty() || context.hooks.workloads.front().prompts.empty()) return false;
  context.send(CommandKind::submit_prompt, context.hooks.workloads.front().prompts.front(),
               context.hooks.default_tokens);
  if (context.status.paused) context.send(CommandKind::resume);
  return true;
}

void draw_no_run(ViewContext& context, const char* title, const char* what_comes) {
  const bool can_run = context.status.live && !context.status.ended && !context.hooks.workloads.empty();
  if (empty_state(context.theme, title, what_comes, can_run ? "Run a demo prompt" : nullptr)) run_demo_prompt(context);
}

}  // namespace expertscope
