#include "views/tokens_view.h"

#include <algorithm>
#include <cmath>

#include "imgui.h"
#include <fmt/format.h>

#include "views/describe.h"
#include "views/format.h"
#include "views/part_bar.h"
#include "views/timeline_panel.h"
#include "views/widgets.h"

namespace expertscope {
namespace {

constexpr float kTextSize = 13;

// Place of a cost on the colour scale; logarithmic, as a token that waits takes many times one that does not.
double cost_place(TimeNs ns, TimeNs cheap, TimeNs dear) {
  if (dear <= cheap || ns <= 0 || cheap <= 0) return 0;
  return std::clamp(std::log(static_cast<double>(ns) / static_cast<double>(cheap)) /
                        std::log(static_cast<double>(dear) / static_cast<double>(cheap)),
                    0.0, 1.0);
}

bool is_inexact(const DemandRecord& demand) {
  InexactCounts counts;
  counts.add(demand);
  return counts.any();
}

float line_height(const Theme& theme) {
  return std::floor(theme.px(kTextSize * 1.55));
}

}  // namespace

void TokensView::update_scale(ViewContext& context) {
  if (trace_ == &context.trace && (revision_ == context.trace.revision() || !context.refresh)) return;
  trace_ = &context.trace;
  revision_ = context.trace.revision();
  std::vector<TimeNs> times;
  for (const StepSummary& step : context.index.steps.steps())
    if (step.phase == Phase::decode) times.push_back(step.end_ns - step.start_ns);
  if (times.empty()) return;
  const auto percentile = [&](double share) {
    const auto at = times.begin() + static_cast<std::ptrdiff_t>(share * static_cast<double>(times.size() - 1));
    std::nth_element(times.begin(), at, times.end());
    return *at;
  };
  cheap_ns_ = percentile(0.05);
  dear_ns_ = std::max(percentile(0.95), cheap_ns_ + cheap_ns_ / 50 + 1);
}

void TokensView::draw_text(ViewContext& context, float width, float height) {
  const Theme& theme = context.theme;
  const Palette& colors = context.colors();
  const Trace& trace = context.trace;
  if (!ImGui::BeginChild("##text", {width, height})) {
    ImGui::EndChild();
    return;
  }
  ImFont* font = theme.mono;
  const float line_height = expertscope::line_height(theme);
  lines_.update(trace, std::max(theme.px(60), ImGui::GetContentRegionAvail().x - theme.px(4)),
                [&](std::string_view text) { return text_size(theme, font, kTextSize, text).x; });

  // Follow the text while it is being written, unless the user has scrolled away from its end.
  const bool at_end = ImGui::GetScrollY() >= ImGui::GetScrollMaxY() - line_height;
  const bool grown = lines_.lines() != known_lines_ || height != known_height_;
  if (grown && (at_end || known_lines_ == 0) && context.selection.follow)
    ImGui::SetScrollY(std::max(0.0f, static_cast<float>(lines_.lines()) * line_height - height));
  else
    ImGui::SetScrollY(std::round(ImGui::GetScrollY() / line_height) * line_height);  // whole lines only
  known_lines_ = lines_.lines();
  known_height_ = height;
  if (context.selection.step != shown_step_) {
    shown_step_ = context.selection.step;
    if (shown_step_)
      if (const auto token = context.index.tokens.sampled_by(*shown_step_)) {
        const float y = static_cast<float>(lines_.line_of_token(*token)) * line_height;
        if (y < ImGui::GetScrollY() || y > ImGui::GetScrollY() + height - line_height * 2)
          ImGui::SetScrollY(std::max(0.0f, y - height / 2));
      }
  }

  // A thin line under each token that is not what the model alone would have computed.
  const bool marks = context.index.inexact.total().any();
  const float mark = std::max(2.0f, std::round(theme.px(2))), under = marks ? mark + 1 : 0;

  ImDrawList& list = *ImGui::GetWindowDrawList();
  const ImVec2 mouse = ImGui::GetIO().MousePos;
  ImGuiListClipper clipper;
  clipper.Begin(static_cast<int>(lines_.lines()), line_height);
  while (clipper.Step()) {
    for (int line = clipper.DisplayStart; line < clipper.DisplayEnd; ++line) {
      const ImVec2 at = ImGui::GetCursorScreenPos();
      ImGui::PushID(line);
      const ImVec2 spacing = ImGui::GetStyle().ItemSpacing;
      ImGui::PushStyleVar(ImGuiStyleVar_ItemSpacing, ImVec2{spacing.x, 0});
      ImGui::InvisibleButton("##line", {std::max(1.0f, ImGui::GetContentRegionAvail().x), line_height});
      ImGui::PopStyleVar();
      const bool hovered = ImGui::IsItemHovered(), clicked = ImGui::IsItemClicked();
      ImGui::PopID();
      const auto index = static_cast<std::size_t>(line);
      if (lines_.heading_of(index) >= 0) {
        const auto prompt = static_cast<std::size_t>(lines_.heading_of(index));
        std::string heading_text = fmt::format("PROMPT {}", prompt + 1);
        if (prompt < trace.prompts.size() && !trace.prompts[prompt].workload.empty())
          heading_text += "  ·  " + trace.prompts[prompt].workload;
        if (const auto quality = context.index.quality.of(static_cast<std::uint32_t>(prompt)); quality.shadowed > 0)
          heading_text += fmt::format("  ·  KL {} nats, same best token {}", format_significant(quality.kl_mean()),
                                      format_percent(quality.agreement()));
        expertscope::draw_text(list, theme, theme.strong, 11, {at.x, at.y + line_height - theme.px(17)},
                               colors.text_faint, heading_text);
        continue;
      }
      for (const TokenBox& box : lines_.of_line(index)) {
        const TokenRecord& token = trace.tokens[box.token];
        const ImVec2 a{at.x + box.x, at.y + 1}, b{at.x + box.x + box.width, at.y + line_height - 1};
        Color ink = colors.text_dim;
        if (token.generated && token.step < trace.steps.size()) {
          const StepRecord& step = trace.steps[token.step];
          const bool decoded = step.phase == Phase::decode;
          const Color ground =
              decoded ? viridis(cost_place(step.end_ns - step.start_ns, cheap_ns_, dear_ns_)) : colors.raised;
          list.AddRectFilled(a, {b.x - 1, b.y - under}, ground, theme.px(2));
          const InexactCounts inexact = context.index.inexact.of(token.step);
          if (inexact.any()) list.AddRectFilled({a.x, b.y - mark}, {b.x - 1, b.y}, colors.changed);
          ink = text_on(ground);
          if (context.selection.step == token.step)
            list.AddRect({a.x - 1, a.y - 1}, {b.x, b.y + 1}, colors.selection, theme.px(2), theme.px(2));
          if (hovered && mouse.x >= a.x && mouse.x < b.x) {
            list.AddRect(a, {b.x - 1, b.y}, colors.selection, theme.px(2));
            context.selection.next_cursor = step.start_ns + (step.end_ns - step.start_ns) / 2;
            const Description d = describe_step(trace, step, inexact, context.index.fates.issued_in(step.step));
            tooltip(theme, d.title, d.lines);
            if (clicked) {
              context.selection.step = step.step;
              context.selection.look_at({step.start_ns, step.end_ns}, context.session());
            }
          }
        }
        expertscope::draw_text(list, theme, font, kTextSize,
                               {a.x, at.y + (line_height - theme.px(kTextSize * 1.25)) / 2}, ink, box.text);
      }
    }
  }
  ImGui::EndChild();
}

// What policies did beyond running each demand: what was given up, and what became of the prefetches.
void TokensView::draw_actions(ViewContext& context, const StepRecord& step) {
  const Theme& theme = context.theme;
  const Palette& colors = context.colors();
  const InexactCounts inexact = context.index.inexact.of(step.step);
  const PrefetchCounts prefetches = context.index.fates.issued_in(step.step);
  const struct {
    std::uint32_t count;
    const char* what;
    Color color;
    bool hatched;
  } entries[] = {
      {inexact.skipped, "skipped", colors.changed, false},
      {inexact.substituted, "substituted", colors.changed, true},
      {inexact.early + inexact.early_unasked, "computed early", colors.cpu_early, false},
      {inexact.low_precision, "low precision", colors.changed, false},
      {prefetches.used, prefetches.used == 1 ? "prefetch useful" : "prefetches useful", colors.prefetch, false},
      {prefetches.late, "late", colors.prefetch_late, false},
      {prefetches.wasted, "wasted", colors.prefetch, true},
      {prefetches.pending, "not asked for yet", colors.prefetch, false}};
  ImGui::PushFont(nullptr, theme.small_font());
  const float right = ImGui::GetCursorScreenPos().x + ImGui::GetContentRegionAvail().x;
  bool first = true;
  for (const auto& entry : entries) {
    if (entry.count == 0) continue;
    const std::string text = fmt::format("{} {}", format_count(entry.count), entry.what);
    const float width = theme.px(18) + text_size(theme, theme.sans, theme.small_font(), text).x;
    if (!first) {
      ImGui::SameLine(0, theme.px(10));
      if (ImGui::GetCursorScreenPos().x + width > right) ImGui::NewLine();
    }
    first = false;
    swatch(theme, entry.color, entry.hatched);
    ImGui::SameLine(0, theme.px(4));
    text_dim(theme, text);
  }
  ImGui::PopFont();
}

void TokensView::draw_details(ViewContext& context) {
  const Theme& theme = context.theme;
  const Palette& colors = context.colors();
  const Trace& trace = context.trace;
  const std::uint32_t step = *context.selection.step;
  if (step >= trace.steps.size()) return;
  const StepRecord& record = trace.steps[step];
  std::string title = step_name(trace, step);
  title[0] = static_cast<char>(std::toupper(title[0]));
  if (const auto token = context.index.tokens.sampled_by(step))
    title += "  “" + token_text(trace, trace.tokens[*token].id) + "”";
  text_strong(theme, title);
  ImGui::SameLine();
  text_dim(theme, format_duration(record.end_ns - record.start_ns));
  ImGui::SameLine(ImGui::GetCursorPosX() + ImGui::GetContentRegionAvail().x - theme.px(22));
  if (icon_button(theme, "##close_token", Icon::close, "", theme.px(22))) {
    context.selection.step.reset();
    return;
  }
  const auto summaries = context.index.steps.steps();
  if (step < summaries.size()) part_bar(theme, summaries[step].part_ns, ImGui::GetContentRegionAvail().x, theme.px(10));
  draw_actions(context, record);
  std::vector<TimeNs> waits(static_cast<std::size_t>(std::max(1, trace.info.layers)));
  for (const WorkRecord& work : trace.works_of(step))
    if (is_wait(work.kind) && work.layer < waits.size()) waits[work.layer] += work.end_ns - work.start_ns;
  if (!ImGui::BeginChild("##route")) {
    ImGui::EndChild();
    return;
  }
  if (ImGui::BeginTable("##layers", 3,
                        ImGuiTableFlags_SizingFixedFit | ImGuiTableFlags_ScrollY | ImGuiTableFlags_RowBg)) {
    ImGui::TableSetupScrollFreeze(0, 1);
    ImGui::TableSetupColumn("layer");
    ImGui::TableSetupColumn("experts", ImGuiTableColumnFlags_WidthStretch);
    ImGui::TableSetupColumn("waited", ImGuiTableColumnFlags_WidthFixed, theme.px(70));
    ImGui::TableHeadersRow();
    const auto demands = trace.demands_of(step);
    for (std::size_t i = 0; i < demands.size();) {
      const std::uint16_t layer = demands[i].layer;
      std::vector<const DemandRecord*> picks;
      for (; i < demands.size() && demands[i].layer == layer; ++i) picks.push_back(&demands[i]);
      std::sort(picks.begin(), picks.end(),
                [](const DemandRecord* a, const DemandRecord* b) { return a->rank < b->rank; });
      ImGui::TableNextRow();
      ImGui::TableNextColumn();
      text_mono(theme, fmt::format("{:2}", layer));
      ImGui::TableNextColumn();
      constexpr std::size_t kShown = 8;
      for (std::size_t n = 0; n < std::min(picks.size(), kShown); ++n) {
        const DemandRecord& demand = *picks[n];
        if (n) ImGui::SameLine(0, theme.px(4));
        ImGui::PushID(static_cast<int>(n) + layer * 64);
        badge(theme, fmt::format("E{}", demand.expert), colors.of(demand.state));
        if (ImGui::IsItemClicked()) context.selection.expert = ExpertId{demand.layer, demand.expert};
        if (ImGui::IsItemHovered())
          tooltip(theme, expert_name({demand.layer, demand.expert}),
                  {{"state", std::string(name(demand.state))},
                   {"outcome", readable(name(demand.outcome))},
                   {"precision", std::string(name(demand.precision))},
                   {"weight", format_significant(demand.weight) + (demand.revised ? ", changed by the gate" : "")},
                   {"ready after", format_duration(demand.ready_ns - demand.asked_ns)}});
        if (is_inexact(demand)) {
          const ImVec2 from = ImGui::GetItemRectMin(), to = ImGui::GetItemRectMax();
          ImGui::GetWindowDrawList()->AddRectFilled({from.x, to.y}, {to.x, to.y + std::max(2.0f, theme.px(2))},
                                                    colors.changed);
        }
        ImGui::SameLine(0, theme.px(3));
        ImGui::PushFont(theme.mono, 11);
        text_dim(theme, fmt::format("{:.2f}", demand.weight));
        ImGui::PopFont();
        ImGui::PopID();
      }
      if (picks.size() > kShown) {
        ImGui::SameLine(0, theme.px(4));
        text_dim(theme, fmt::format("and {} more", picks.size() - kShown));
      }
      ImGui::TableNextColumn();
      if (layer < waits.size() && waits[layer] > 0)
        text_mono(theme, fmt::format("{:>8}", format_duration(waits[layer])));
    }
    ImGui::EndTable();
  }
  ImGui::EndChild();
}

void TokensView::draw(ViewContext& context) {
  if (context.trace.tokens.empty()) {
    draw_no_run(context, "No text yet",
                "The tokens of prompts and answers appear here, each on a colour that shows how long it took.");
    return;
  }
  update_scale(context);
  const Theme& theme = context.theme;
  const ImVec2 room = ImGui::GetContentRegionAvail();
  const bool details = context.selection.step.has_value();
  const bool beside = room.x > theme.px(480);
  const float details_width = std::clamp(room.x * 0.42f, theme.px(250), theme.px(420));
  const float text_width = details && beside ? room.x - details_width - theme.px(12) : room.x;

  ImGui::BeginGroup();
  if (dear_ns_ > 0) {
    const ImVec2 at = ImGui::GetCursorScreenPos();
    ImDrawList& list = *ImGui::GetWindowDrawList();
    const std::string low = format_duration(cheap_ns_), high = format_duration(dear_ns_) + " a token";
    const float low_width = text_size(theme, theme.sans, 11, low).x;
    const float x0 = at.x + low_width + theme.px(6), x1 = x0 + theme.px(110);
    expertscope::draw_text(list, theme, theme.sans, 11, {at.x, at.y}, context.colors().text_dim, low);
    draw_viridis(list, {x0, at.y + theme.px(3)}, {x1, at.y + theme.px(12)});
    expertscope::draw_text(list, theme, theme.sans, 11, {x1 + theme.px(6), at.y}, context.colors().text_dim, high);
    if (context.index.inexact.total().any()) {
      const float key = x1 + theme.px(24) + text_size(theme, theme.sans, 11, high).x;
      list.AddRectFilled({key, at.y + theme.px(9)}, {key + theme.px(14), at.y + theme.px(11)},
                         context.colors().changed);
      expertscope::draw_text(list, theme, theme.sans, 11, {key + theme.px(19), at.y}, context.colors().text_dim,
                             "inexact");
    }
    ImGui::Dummy({text_width, theme.px(15)});
  }
  const float left = ImGui::GetContentRegionAvail().y;
  const float wanted = details && !beside ? left * 0.5f : left;
  draw_text(context, text_width, std::max(1.0f, std::floor(wanted / line_height(theme))) * line_height(theme));
  ImGui::EndGroup();
  if (!details) return;
  if (beside) ImGui::SameLine(0, theme.px(12));
  if (ImGui::BeginChild("##details", {beside ? details_width : room.x, 0})) draw_details(context);
  ImGui::EndChild();
}

}  // namespace expertscope
