#include "views/theme.h"

#include <span>

#include "assets/fonts/embedded_fonts.h"
#include "implot.h"

namespace expertscope {
namespace {

constexpr float kFontSize = 14.0f;

// `merged`: fills in what the font before it lacks.
ImFont* load(std::span<const unsigned char> bytes, bool merged = false) {
  ImFontAtlas* atlas = ImGui::GetIO().Fonts;
  if (bytes.empty()) return merged ? nullptr : atlas->AddFontDefault();
  ImFontConfig config;
  config.FontDataOwnedByAtlas = false;
  config.MergeMode = merged;
  return atlas->AddFontFromMemoryTTF(const_cast<unsigned char*>(bytes.data()), static_cast<int>(bytes.size()),
                                     kFontSize, &config);
}

ImVec4 v(Color color) {
  return ImGui::ColorConvertU32ToFloat4(color);
}

void set_colors(ImGuiStyle& style, const Palette& p) {
  ImVec4* c = style.Colors;
  const auto set = [&](ImGuiCol slot, Color color) { c[slot] = v(color); };
  set(ImGuiCol_Text, p.text);
  set(ImGuiCol_TextDisabled, p.text_faint);
  set(ImGuiCol_WindowBg, p.panel);
  set(ImGuiCol_ChildBg, with_alpha(p.panel, 0));
  set(ImGuiCol_PopupBg, mix(p.panel, p.raised, 0.5));
  set(ImGuiCol_Border, p.border);
  set(ImGuiCol_BorderShadow, 0);
  for (const ImGuiCol slot : {ImGuiCol_FrameBg, ImGuiCol_Button, ImGuiCol_Header}) set(slot, p.raised);
  for (const ImGuiCol slot : {ImGuiCol_FrameBgHovered, ImGuiCol_ButtonHovered, ImGuiCol_HeaderHovered})
    set(slot, mix(p.raised, p.accent, 0.25));
  for (const ImGuiCol slot : {ImGuiCol_FrameBgActive, ImGuiCol_ButtonActive, ImGuiCol_HeaderActive})
    set(slot, mix(p.raised, p.accent, 0.45));
  for (const ImGuiCol slot : {ImGuiCol_TitleBg, ImGuiCol_TitleBgActive, ImGuiCol_TitleBgCollapsed, ImGuiCol_MenuBarBg,
                              ImGuiCol_DockingEmptyBg})
    set(slot, p.window);
  set(ImGuiCol_ScrollbarBg, with_alpha(p.window, 0));
  set(ImGuiCol_ScrollbarGrab, p.border);
  set(ImGuiCol_ScrollbarGrabHovered, p.text_faint);
  set(ImGuiCol_ScrollbarGrabActive, p.text_dim);
  set(ImGuiCol_CheckMark, p.accent);
  set(ImGuiCol_SliderGrab, p.accent);
  set(ImGuiCol_SliderGrabActive, mix(p.accent, p.text, 0.25));
  set(ImGuiCol_Separator, p.border);
  set(ImGuiCol_SeparatorHovered, p.accent);
  set(ImGuiCol_SeparatorActive, p.accent);
  set(ImGuiCol_ResizeGrip, 0);
  set(ImGuiCol_ResizeGripHovered, p.accent);
  set(ImGuiCol_ResizeGripActive, p.accent);
  set(ImGuiCol_Tab, p.window);
  set(ImGuiCol_TabHovered, mix(p.panel, p.accent, 0.25));
  set(ImGuiCol_TabSelected, p.panel);
  set(ImGuiCol_TabSelectedOverline, with_alpha(p.accent, 0));
  set(ImGuiCol_TabDimmed, p.window);
  set(ImGuiCol_TabDimmedSelected, p.panel);
  set(ImGuiCol_TabDimmedSelectedOverline, 0);
  set(ImGuiCol_DockingPreview, with_alpha(p.accent, 0.4));
  set(ImGuiCol_TableHeaderBg, p.panel);
  set(ImGuiCol_TableBorderStrong, p.border);
  set(ImGuiCol_TableBorderLight, p.grid);
  set(ImGuiCol_TableRowBg, 0);
  set(ImGuiCol_TableRowBgAlt, with_alpha(p.raised, 0.35));
  set(ImGuiCol_TextSelectedBg, with_alpha(p.accent, 0.35));
  set(ImGuiCol_NavCursor, p.accent);
  set(ImGuiCol_DragDropTarget, p.accent);
  set(ImGuiCol_ModalWindowDimBg, with_alpha(p.window, 0.6));
  set(ImGuiCol_PlotLines, p.accent);
  set(ImGuiCol_PlotHistogram, p.accent);
}

}  // namespace

void Theme::load_fonts(float monitor_scale) {
  scale = monitor_scale;
  sans = load(embedded_sans_font());
  strong = load(embedded_strong_font().empty() ? embedded_sans_font() : embedded_strong_font());
  mono = load(embedded_mono_font());
  if (!embedded_mono_font().empty()) load(embedded_sans_font(), true);  // arrows and signs
  ImGui::GetIO().FontDefault = sans;
}

void Theme::apply() const {
  ImGuiStyle& style = ImGui::GetStyle();
  style = ImGuiStyle();
  style.FontSizeBase = kFontSize;
  style.WindowPadding = {10, 8};
  style.FramePadding = {8, 4};
  style.ItemSpacing = {8, 6};
  style.ItemInnerSpacing = {6, 4};
  style.CellPadding = {6, 3};
  style.ScrollbarSize = 11;
  style.GrabMinSize = 12;
  style.WindowRounding = 0;
  style.FrameRounding = 4;
  style.PopupRounding = 5;
  style.GrabRounding = 4;
  style.TabRounding = 4;
  style.ScrollbarRounding = 6;
  style.WindowBorderSize = 1;
  style.ChildBorderSize = 1;
  style.PopupBorderSize = 1;
  style.TabBarBorderSize = 0;
  style.TabBarOverlineSize = 0;
  style.DockingSeparatorSize = 4;
  style.WindowMenuButtonPosition = ImGuiDir_None;
  style.SeparatorTextBorderSize = 1;
  style.DisabledAlpha = 0.45f;
  style.HoverDelayNormal = 0.35f;
  set_colors(style, colors());
  style.ScaleAllSizes(scale);
  style.FontScaleDpi = scale;

  ImPlotStyle& plot = ImPlot::GetStyle();
  plot = ImPlotStyle();
  plot.Colors[ImPlotCol_FrameBg] = v(with_alpha(colors().panel, 0));
  plot.Colors[ImPlotCol_PlotBg] = v(colors().panel);
  plot.Colors[ImPlotCol_PlotBorder] = v(colors().border);
  plot.Colors[ImPlotCol_AxisGrid] = v(mix(colors().grid, colors().border, 0.5));
  plot.Colors[ImPlotCol_AxisText] = v(colors().text_dim);
  plot.PlotPadding = {4 * scale, 4 * scale};
}

}  // namespace expertscope
