#include "views/widgets.h"

#include <algorithm>
#include <cmath>

#include "imgui_internal.h"

namespace expertscope {

void draw_text(ImDrawList& list, const Theme& theme, ImFont* font, float size, ImVec2 at, Color color,
               std::string_view text) {
  list.AddText(font, size * theme.scale, {std::floor(at.x), std::floor(at.y)}, color, begin_of(text), end_of(text));
}

ImVec2 text_size(const Theme& theme, ImFont* font, float size, std::string_view text) {
  return font->CalcTextSizeA(size * theme.scale, FLT_MAX, 0, begin_of(text), end_of(text));
}

std::string fitting(const Theme& theme, ImFont* font, float size, std::string_view text, float width) {
  if (width <= 0) return "";
  if (text_size(theme, font, size, text).x <= width) return std::string(text);
  const float room = width - text_size(theme, font, size, "…").x;
  if (room <= 0) return "";
  const char* end = nullptr;
  font->CalcTextSizeA(size * theme.scale, room, 0, begin_of(text), end_of(text), &end);
  return end > text.data() ? std::string(text.data(), end) + "…" : "";
}

void draw_hatched(ImDrawList& list, const Theme& theme, ImVec2 a, ImVec2 b, Color color) {
  if (b.x - a.x < theme.px(3)) {
    list.AddRectFilled(a, b, with_alpha(color, 0.75));
    return;
  }
  list.AddRectFilled(a, b, with_alpha(color, 0.28));
  const float height = b.y - a.y;
  const float period = theme.px(6);
  // Stripes are anchored to the screen, so that neighbours join up and nothing crawls while panning.
  for (float x = std::floor((a.x - height) / period) * period; x < b.x; x += period) {
    const float left = std::max(x, a.x), right = std::min(x + height, b.x);
    if (left < right) list.AddLine({left, b.y - (left - x)}, {right, b.y - (right - x)}, color, theme.px(1.6));
  }
}

float draw_flag(ImDrawList& list, const Theme& theme, float x, float top, float bottom, std::string_view text,
                float max_right, bool dashed) {
  const Color color = theme.colors().marker;
  if (dashed) {
    for (float y = top; y < bottom; y += theme.px(7))
      list.AddLine({x, y}, {x, std::min(bottom, y + theme.px(4))}, color, theme.px(1));
  } else {
    list.AddLine({x, top}, {x, bottom}, with_alpha(color, 0.85), theme.px(1));
  }
  const std::string shown = fitting(theme, theme.sans, theme.small_font(), text, max_right - x - theme.px(10));
  if (shown.empty()) return x;
  const ImVec2 size = text_size(theme, theme.sans, theme.small_font(), shown);
  const ImVec2 a{x, top}, b{x + size.x + theme.px(10), top + size.y + theme.px(4)};
  list.AddRectFilled(a, b, color, theme.px(3), ImDrawFlags_RoundTopRight | ImDrawFlags_RoundBottomRight);
  draw_text(list, theme, theme.sans, theme.small_font(), {a.x + theme.px(5), a.y + theme.px(2)}, text_on(color), shown);
  return b.x;
}

void draw_viridis(ImDrawList& list, ImVec2 a, ImVec2 b) {
  constexpr int kPieces = 32;
  for (int i = 0; i < kPieces; ++i) {
    const float x0 = a.x + (b.x - a.x) * static_cast<float>(i) / kPieces,
                x1 = a.x + (b.x - a.x) * static_cast<float>(i + 1) / kPieces;
    const Color left = viridis(static_cast<double>(i) / kPieces), right = viridis((i + 1.0) / kPieces);
    list.AddRectFilledMultiColor({x0, a.y}, {x1, b.y}, left, right, right, left);
  }
}

void text_dim(const Theme& theme, std::string_view text) {
  ImGui::PushStyleColor(ImGuiCol_Text, theme.colors().text_dim);
  ImGui::TextUnformatted(begin_of(text), end_of(text));
  ImGui::PopStyleColor();
}

void text_strong(const Theme& theme, std::string_view text) {
  ImGui::PushFont(theme.strong, 0);
  ImGui::TextUnformatted(begin_of(text), end_of(text));
  ImGui::PopFont();
}

void text_mono(const Theme& theme, std::string_view text) {
  ImGui::PushFont(theme.mono, 13);
  ImGui::TextUnformatted(begin_of(text), end_of(text));
  ImGui::PopFont();
}

void text_wrapped_dim(const Theme& theme, std::string_view text) {
  ImGui::PushStyleColor(ImGuiCol_Text, theme.colors().text_dim);
  ImGui::PushFont(nullptr, theme.small_font());
  ImGui::PushTextWrapPos(0);
  ImGui::TextUnformatted(begin_of(text), end_of(text));
  ImGui::PopTextWrapPos();
  ImGui::PopFont();
  ImGui::PopStyleColor();
}

void heading(const Theme& theme, std::string_view text) {
  ImGui::SetCursorPosY(ImGui::GetCursorPosY() + theme.px(5));
  ImGui::PushFont(theme.strong, theme.small_font());
  ImGui::PushStyleColor(ImGuiCol_Text, theme.colors().text_dim);
  ImGui::TextUnformatted(begin_of(text), end_of(text));
  ImGui::PopStyleColor();
  ImGui::PopFont();
}

void badge(const Theme& theme, std::string_view text, Color ground) {
  const ImVec2 size = text_size(theme, theme.strong, 11, text);
  const ImVec2 pad{theme.px(6), theme.px(2)};
  const ImVec2 at = ImGui::GetCursorScreenPos();
  const float offset = std::floor((ImGui::GetTextLineHeight() - size.y - pad.y * 2) / 2) +
                       ImGui::GetCurrentWindow()->DC.CurrLineTextBaseOffset;
  const ImVec2 a{at.x, at.y + offset}, b{at.x + size.x + pad.x * 2, at.y + offset + size.y + pad.y * 2};
  ImDrawList& list = *ImGui::GetWindowDrawList();
  list.AddRectFilled(a, b, ground, theme.px(3));
  draw_text(list, theme, theme.strong, 11, {a.x + pad.x, a.y + pad.y}, text_on(ground), text);
  ImGui::Dummy({size.x + pad.x * 2, ImGui::GetTextLineHeight()});
}

void label_badge(const Theme& theme, Label label) {
  const Palette& colors = theme.colors();
  const Color ground = label == Label::measured    ? colors.ok
                       : label == Label::estimated ? colors.promotion
                                                   : colors.changed;
  badge(theme, name(label), ground);
  if (ImGui::IsItemHovered(ImGuiHoveredFlags_ForTooltip))
    ImGui::SetTooltip("%s", label == Label::measured ? "MEASURED: times come from clocks on a real machine"
                            : label == Label::estimated
                                ? "ESTIMATED: times come from a machine profile, the arithmetic is real"
                                : "SIMULATED: times and counts come from replaying recorded routing");
}

namespace {

void draw_icon(ImDrawList& list, Icon icon, ImVec2 c, float r, Color color) {
  const float line = std::max(1.0f, r * 0.3f);
  switch (icon) {
    case Icon::play:
      list.AddTriangleFilled({c.x - r * 0.7f, c.y - r}, {c.x + r, c.y}, {c.x - r * 0.7f, c.y + r}, color);
      break;
    case Icon::pause:
      list.AddRectFilled({c.x - r * 0.8f, c.y - r}, {c.x - r * 0.2f, c.y + r}, color);
      list.AddRectFilled({c.x + r * 0.2f, c.y - r}, {c.x + r * 0.8f, c.y + r}, color);
      break;
    case Icon::step:
      list.AddTriangleFilled({c.x - r * 0.9f, c.y - r}, {c.x + r * 0.5f, c.y}, {c.x - r * 0.9f, c.y + r}, color);
      list.AddRectFilled({c.x + r * 0.55f, c.y - r}, {c.x + r, c.y + r}, color);
      break;
    case Icon::flag:
      list.AddLine({c.x - r * 0.7f, c.y - r}, {c.x - r * 0.7f, c.y + r}, color, line);
      list.AddTriangleFilled({c.x - r * 0.6f, c.y - r}, {c.x + r, c.y - r * 0.4f}, {c.x - r * 0.6f, c.y + r * 0.2f},
                             color);
      break;
    case Icon::reset:
      list.PathArcTo(c, r * 0.85f, -0.4f * IM_PI, 1.2f * IM_PI, 16);
      list.PathStroke(color, line);
      list.AddTriangleFilled({c.x - r * 0.1f, c.y - r * 1.35f}, {c.x + r * 0.75f, c.y - r * 0.85f},
                             {c.x - r * 0.1f, c.y - r * 0.3f}, color);
      break;
    case Icon::menu:
      for (int i = -1; i <= 1; ++i)
        list.AddLine({c.x - r, c.y + static_cast<float>(i) * r * 0.75f},
                     {c.x + r, c.y + static_cast<float>(i) * r * 0.75f}, color, line);
      break;
    case Icon::question:
      break;
    case Icon::close:
      list.AddLine({c.x - r * 0.7f, c.y - r * 0.7f}, {c.x + r * 0.7f, c.y + r * 0.7f}, color, line);
      list.AddLine({c.x - r * 0.7f, c.y + r * 0.7f}, {c.x + r * 0.7f, c.y - r * 0.7f}, color, line);
      break;
    case Icon::copy:
      list.AddRect({c.x - r, c.y - r}, {c.x + r, c.y + r}, color, 1, line);
      break;
  }
}

}  // namespace

bool icon_button(const Theme& theme, const char* id, Icon icon, std::string_view text, float width, bool emphasised) {
  const ImVec2 label = text.empty() ? ImVec2{0, 0} : text_size(theme, theme.sans, 14, text);
  const float icon_width = icon == Icon::question ? 0 : theme.px(12);
  const float gap = text.empty() || icon_width == 0 ? 0 : theme.px(6);
  const float wanted = width > 0 ? width : label.x + icon_width + gap + ImGui::GetStyle().FramePadding.x * 2;
  if (emphasised) {
    ImGui::PushStyleColor(ImGuiCol_Button, theme.colors().gpu);
    ImGui::PushStyleColor(ImGuiCol_ButtonHovered, mix(theme.colors().gpu, rgb(0xFFFFFF), 0.15));
  }
  const bool pressed = ImGui::Button(id, {wanted, 0});
  if (emphasised) ImGui::PopStyleColor(2);
  const ImVec2 a = ImGui::GetItemRectMin(), b = ImGui::GetItemRectMax();
  const float left = std::floor(a.x + (b.x - a.x - label.x - icon_width - gap) / 2);
  const Color color = ImGui::GetColorU32(emphasised ? ImGui::ColorConvertU32ToFloat4(rgb(0xFFFFFF))
                                                    : ImGui::GetStyleColorVec4(ImGuiCol_Text));
  ImDrawList& list = *ImGui::GetWindowDrawList();
  if (icon_width > 0) draw_icon(list, icon, {left + icon_width / 2, std::floor((a.y + b.y) / 2)}, theme.px(4.5), color);
  if (!text.empty())
    draw_text(list, theme, theme.sans, 14, {left + icon_width + gap, a.y + (b.y - a.y - label.y) / 2}, color, text);
  return pressed;
}

void draw_bar(ImDrawList& list, const Theme& theme, std::span<const BarPart> parts, ImVec2 a, ImVec2 b) {
  list.AddRectFilled(a, b, theme.colors().raised, theme.px(2));
  double before = 0;
  for (const BarPart& part : parts) {
    const float x0 = a.x + static_cast<float>(before) * (b.x - a.x);
    before += part.share;
    const float x1 = a.x + static_cast<float>(std::min(1.0, before)) * (b.x - a.x);
    if (x1 - x0 < 0.5f) continue;
    const float gap = x1 - x0 > 3 ? 1.0f : 0.0f;
    if (part.hatched)
      draw_hatched(list, theme, {x0, a.y}, {x1 - gap, b.y}, part.color);
    else
      list.AddRectFilled({x0, a.y}, {x1 - gap, b.y}, part.color);
  }
}

void stacked_bar(const Theme& theme, std::span<const BarPart> parts, float width, float height) {
  const ImVec2 a = ImGui::GetCursorScreenPos();
  draw_bar(*ImGui::GetWindowDrawList(), theme, parts, a, {a.x + width, a.y + height});
  ImGui::Dummy({width, height});
}

void swatch(const Theme& theme, Color color, bool hatched) {
  const float size = theme.px(10);
  const ImVec2 at = ImGui::GetCursorScreenPos();
  const float top =
      std::floor(at.y + ImGui::GetCurrentWindow()->DC.CurrLineTextBaseOffset + (ImGui::GetTextLineHeight() - size) / 2);
  ImDrawList& list = *ImGui::GetWindowDrawList();
  if (hatched)
    draw_hatched(list, theme, {at.x, top}, {at.x + size, top + size}, color);
  else
    list.AddRectFilled({at.x, top}, {at.x + size, top + size}, color, theme.px(2));
  ImGui::Dummy({size, ImGui::GetTextLineHeight()});
}

void name_value_rows(const Theme& theme, const char* id, const TooltipLines& lines) {
  ImGui::PushStyleVar(ImGuiStyleVar_CellPadding, ImVec2{theme.px(4), theme.px(1)});
  if (ImGui::BeginTable(id, 2, ImGuiTableFlags_SizingFixedFit)) {
    for (const auto& [name, value] : lines) {
      ImGui::TableNextRow();
      ImGui::TableNextColumn();
      text_dim(theme, name);
      ImGui::TableNextColumn();
      text_mono(theme, value);
    }
    ImGui::EndTable();
  }
  ImGui::PopStyleVar();
}

void tooltip(const Theme& theme, std::string_view title, const TooltipLines& lines) {
  if (!ImGui::BeginTooltip()) return;
  text_strong(theme, title);
  constexpr std::size_t kMaxLines = 7;  // and the title: eight
  name_value_rows(theme, "##tooltip",
                  {lines.begin(), lines.begin() + static_cast<std::ptrdiff_t>(std::min(lines.size(), kMaxLines))});
  ImGui::EndTooltip();
}

bool value_slider(const Theme& theme, const char* id, SliderState& state, double min, double max, double current,
                  double initial, const char* shown, bool logarithmic) {
  bool chosen = false;
  ImGui::SetNextItemWidth(-FLT_MIN);
  if (state.typing) {
    ImGui::PushID(id);
    if (!state.dragging) ImGui::SetKeyboardFocusHere();
    ImGui::InputDouble("##typed", &state.value, 0, 0, "%.6g", ImGuiInputTextFlags_AutoSelectAll);
    if (ImGui::IsItemActive()) state.dragging = true;
    if (state.dragging && !ImGui::IsItemActive()) {
      chosen = ImGui::IsItemDeactivatedAfterEdit();
      state.value = std::clamp(state.value, min, max);
      state.typing = state.dragging = false;
    }
    ImGui::PopID();
    return chosen;
  }
  if (!state.dragging) state.value = current;
  // A bar from the left up to the value reads better under text than a grab does.
  const ImVec2 at = ImGui::GetCursorScreenPos();
  const ImVec2 size{ImGui::GetContentRegionAvail().x, ImGui::GetFrameHeight()};
  // Zero is where Dear ImGui puts it on a logarithmic scale: below the smallest value that it tells apart.
  const double low = std::max(min, 1e-3);
  const double share = logarithmic ? (state.value > low ? std::log(state.value / low) / std::log(max / low) : 0)
                                   : (state.value - min) / (max - min);
  const float filled = at.x + size.x * static_cast<float>(std::clamp(share, 0.0, 1.0));
  ImDrawList& list = *ImGui::GetWindowDrawList();
  list.AddRectFilled(at, {at.x + size.x, at.y + size.y}, theme.colors().raised, ImGui::GetStyle().FrameRounding);
  if (filled > at.x + 1)
    list.AddRectFilled(at, {filled, at.y + size.y}, mix(theme.colors().raised, theme.colors().accent, 0.5),
                       ImGui::GetStyle().FrameRounding);
  list.AddRectFilled({std::max(at.x, filled - theme.px(3)), at.y},
                     {std::max(at.x + theme.px(3), filled), at.y + size.y}, theme.colors().accent, theme.px(1.5));
  const ImVec4 nothing(0, 0, 0, 0);
  for (const ImGuiCol slot : {ImGuiCol_FrameBg, ImGuiCol_FrameBgActive, ImGuiCol_SliderGrab, ImGuiCol_SliderGrabActive})
    ImGui::PushStyleColor(slot, nothing);
  ImGui::PushStyleColor(ImGuiCol_FrameBgHovered, with_alpha(theme.colors().accent, 0.12));
  const ImGuiSliderFlags flags = ImGuiSliderFlags_AlwaysClamp | ImGuiSliderFlags_NoRoundToFormat |
                                 (logarithmic ? ImGuiSliderFlags_Logarithmic : 0);
  ImGui::SliderScalar(id, ImGuiDataType_Double, &state.value, &min, &max, shown, flags);
  ImGui::PopStyleColor(5);
  state.dragging = ImGui::IsItemActive();
  chosen = ImGui::IsItemDeactivatedAfterEdit() && state.value != current;
  if (ImGui::IsItemHovered()) {
    if (ImGui::IsMouseDoubleClicked(ImGuiMouseButton_Left)) {
      state = {current, false, true};
      ImGui::ClearActiveID();
      return false;
    }
    if (ImGui::IsMouseClicked(ImGuiMouseButton_Right) && current != initial) {
      state.value = initial;
      return true;
    }
  }
  return chosen;
}

bool empty_state(const Theme& theme, std::string_view title, std::string_view what_to_do, const char* button) {
  const ImVec2 room = ImGui::GetContentRegionAvail();
  const ImVec2 start = ImGui::GetCursorPos();
  const float width = std::min(room.x, theme.px(420));
  const float line = ImGui::GetTextLineHeightWithSpacing();
  const float left = start.x + (room.x - width) / 2;
  ImGui::SetCursorPos({left, start.y + std::max(0.0f, (room.y - line * 4) / 2)});
  ImGui::BeginGroup();
  const auto centred = [&](ImFont* font, float size, Color color, std::string_view text) {
    ImGui::PushFont(font, size);
    ImGui::PushStyleColor(ImGuiCol_Text, color);
    for (const char* at = begin_of(text); at < end_of(text);) {
      const char* end = font->CalcWordWrapPosition(size * theme.scale, at, end_of(text), width);
      if (end == at) break;
      ImGui::SetCursorPosX(left + std::max(0.0f, (width - ImGui::CalcTextSize(at, end).x) / 2));
      ImGui::TextUnformatted(at, end);
      for (at = end; at < end_of(text) && *at == ' ';) ++at;
    }
    ImGui::PopStyleColor();
    ImGui::PopFont();
  };
  centred(theme.strong, 15, theme.colors().text, title);
  centred(theme.sans, 13, theme.colors().text_dim, what_to_do);
  bool pressed = false;
  if (button) {
    const float button_width = ImGui::CalcTextSize(button, nullptr, true).x + ImGui::GetStyle().FramePadding.x * 4;
    ImGui::Dummy({0, theme.px(2)});
    ImGui::SetCursorPosX(left + (width - button_width) / 2);
    pressed = ImGui::Button(button, {button_width, 0});
  }
  ImGui::EndGroup();
  return pressed;
}

}  // namespace expertscope
