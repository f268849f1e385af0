#include "views/theme.h"

#include <array>
#include <filesystem>
#include <span>

#include "implot.h"

namespace expertscope {
namespace {

constexpr float kFontSize = 14.0f;

// Where Debian, Fedora, Arch and others put them, best first.
constexpr std::array kSans = {"/usr/share/fonts/opentype/inter/Inter-Regular.otf", "/usr/share/fonts/inter/Inter-Regular.otf",
                              "/usr/share/fonts/truetype/roboto/unhinted/RobotoTTF/Roboto-Regular.ttf", "/usr/share/fonts/google-roboto/Roboto-Regular.ttf",
                              "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf", "/usr/share/fonts/TTF/DejaVuSans.ttf"};
constexpr std::array kStrong = {"/usr/share/fonts/opentype/inter/Inter-SemiBold.otf", "/usr/share/fonts/inter/Inter-SemiBold.otf",
                                "/usr/share/fonts/truetype/roboto/unhinted/RobotoTTF/Roboto-Medium.ttf", "/usr/share/fonts/google-roboto/Roboto-Medium.ttf",
                                "/usr/share/fonts/truetype/dejavu/DejaVuSans-Bold.ttf", "/usr/share/fonts/TTF/DejaVuSans-Bold.ttf"};
constexpr std::array kMono = {"/usr/share/fonts/truetype/jetbrains-mono/JetBrainsMono-Regular.ttf", "/usr/share/fonts/TTF/JetBrainsMono-Regular.ttf",
                              "/usr/share/fonts/jetbrains-mono-fonts/JetBrainsMono-Regular.otf", "/usr/share/fonts/truetype/dejavu/DejaVuSansMono.ttf",
                              "/usr/share/fonts/TTF/DejaVuSansMono.ttf"};
constexpr std::array kSymbols = {"/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf", "/usr/share/fonts/TTF/DejaVuSans.ttf"};

const char* first_existing(std::span<const char* const> paths) {
  std::error_code ignored;
  for (const char* path : paths)
    if (std::filesystem::is_regular_file(path, ignored)) return path;
  return nullptr;
}

ImFont* load(std::span<const char* const> paths, std::string& taken) {
  ImFontAtlas* atlas = ImGui::GetIO().Fonts;
  const char* path = first_existing(paths);
  ImFont* font = path ? atlas->AddFontFromFileTTF(path, kFontSize) : nullptr;
  if (!taken.empty()) taken += ", ";
  taken += font ? std::filesystem::path(path).stem().string() : "Dear ImGui's own";
  if (!font) return atlas->AddFontDefault();
  if (const char* symbols = first_existing(kSymbols); symbols && path != symbols) {
    ImFontConfig merged;
    merged.MergeMode = true;
    atlas->AddFontFromFileTTF(symbols, kFontSize, &merged);
  }
  return font;
}

ImVec4 v(Color color) { return ImGui::ColorConvertU32ToFloat4(color); }

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
  for (const ImGuiCol slot : {ImGuiCol_FrameBgHovered, ImGuiCol_ButtonHovered, ImGuiCol_HeaderHovered}) set(slot, mix(p.raised, p.accent, 0.25));
  for (const ImGuiCol slot : {ImGuiCol_FrameBgActive, ImGuiCol_ButtonActive, ImGuiCol_HeaderActive}) set(slot, mix(p.raised, p.accent, 0.45));
  for (const ImGuiCol slot : {ImGuiCol_TitleBg, ImGuiCol_TitleBgActive, ImGuiCol_TitleBgCollapsed, ImGuiCol_MenuBarBg, ImGuiCol_DockingEmptyBg}) set(slot, p.window);
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

std::string Theme::load_fonts(float monitor_scale) {
  std::string taken;
  scale = monitor_scale;
  sans = load(kSans, taken);
  strong = load(kStrong, taken);
  mono = load(kMono, taken);
  ImGui::GetIO().FontDefault = sans;
  return taken;
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
