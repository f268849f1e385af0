#include "views/policy_editor.h"

#include <cmath>

#include "imgui.h"
#include "misc/cpp/imgui_stdlib.h"
#include <fmt/format.h>

#include "engine/error.h"
#include "views/format.h"
#include "views/policy_choice.h"

namespace expertscope {
namespace {

// Of the list of presets: its width, and where a line's columns begin.
constexpr double kPresets_px = 470, kExactness_px = 150, kPaper_px = 205;
constexpr double kWide = 1000;                  // a range wider than this is logarithmic
constexpr double kRowPadding = 2, kRowGap = 2;  // tighter than elsewhere: there are many of them

bool is_choice(ComponentKind kind) {
  return live_components(kind).size() > 1;
}

std::string shown_value(const ParameterDecl& decl, double value) {
  std::string text = decl.type == ParameterType::integer ? fmt::format("{:.0f}", value) : format_significant(value);
  if (!decl.unit.empty()) text += fmt::format(" {}", decl.unit);
  return text;
}

void preset_tooltip(const Theme& theme, const PresetDecl& preset) {
  tooltip(theme, preset.name,
          {{"does", std::string(preset.help)},
           {"from", std::string(preset.paper)},
           {"output", preset.exact ? "unchanged" : "approximate"}});
}

// As far as a slider goes: no further than the model has layers or experts.
double slider_max(const ParameterDecl& decl, const LiveStatus& status) {
  const int most = decl.unit == "layers" ? status.layers : decl.unit == "experts" ? status.experts : 0;
  return most > decl.min ? std::min(decl.max, static_cast<double>(most)) : decl.max;
}

}  // namespace

const PolicySpec* PolicyEditor::spec_of(const std::string& text) {
  if (text != text_) {
    text_ = text;
    try {
      spec_ = parse_policy_spec(text);
      valid_ = true;
      inexact_ = is_inexact_policy(text);
    } catch (const InputError&) {
      valid_ = inexact_ = false;
    }
  }
  return valid_ ? &spec_ : nullptr;
}

void PolicyEditor::draw_preset(ViewContext& context, const PresetDecl& preset, bool chosen) {
  const Theme& theme = context.theme;
  const Palette& colors = context.colors();
  const std::string label(preset.name);
  ImGui::PushID(label.c_str());
  if (ImGui::Selectable(label.c_str(), chosen)) context.send(CommandKind::set_policy, label);
  if (chosen && ImGui::IsWindowAppearing()) ImGui::SetScrollHereY();
  if (ImGui::IsItemHovered(ImGuiHoveredFlags_ForTooltip)) preset_tooltip(theme, preset);
  const ImVec2 from = ImGui::GetItemRectMin(), to = ImGui::GetItemRectMax();
  const float y = from.y + (to.y - from.y - theme.px(15)) / 2 + theme.px(2);
  ImDrawList& list = *ImGui::GetWindowDrawList();
  if (!preset.exact)
    draw_text(list, theme, theme.sans, 12, {from.x + theme.px(kExactness_px), y}, colors.changed, "inexact");
  if (preset.paper != "baseline")
    draw_text(list, theme, theme.sans, 12, {from.x + theme.px(kPaper_px), y}, colors.text_dim,
              fitting(theme, theme.sans, 12, preset.paper, to.x - from.x - theme.px(kPaper_px)));
  ImGui::PopID();
}

void PolicyEditor::draw_presets(ViewContext& context, const PolicySpec* spec) {
  const Theme& theme = context.theme;
  const std::string shown = spec ? spec->preset : context.status.policy_spec;
  ImGui::SetNextItemWidth(-FLT_MIN);
  // Wider than its combo: a name, whether it is exact, and where it comes from stand in one line.
  ImGui::SetNextWindowSizeConstraints({theme.px(kPresets_px), 0},
                                      {theme.px(kPresets_px), ImGui::GetMainViewport()->WorkSize.y * 0.7f});
  if (ImGui::BeginCombo("##policy", shown.c_str(), ImGuiComboFlags_HeightLargest)) {
    if (ImGui::IsWindowAppearing()) {
      filter_.clear();
      ImGui::SetKeyboardFocusHere();
    }
    ImGui::SetNextItemWidth(-FLT_MIN);
    const bool entered = ImGui::InputTextWithHint("##filter", "Search by name, paper or what it does", &filter_,
                                                  ImGuiInputTextFlags_EnterReturnsTrue);
    const auto groups = live_presets(filter_);
    if (groups.empty()) text_dim(theme, "No policy is called or described so.");
    for (const PresetGroup& group : groups) {
      ImGui::SeparatorText(std::string(group.title).c_str());
      for (const PresetDecl* preset : group.presets) draw_preset(context, *preset, preset->name == shown);
    }
    if (entered && !filter_.empty() && !groups.empty()) {
      context.send(CommandKind::set_policy, std::string(groups.front().presets.front()->name));
      ImGui::CloseCurrentPopup();
    }
    ImGui::EndCombo();
  }
  if (const PresetDecl* preset = find_preset(shown); preset && ImGui::IsItemHovered(ImGuiHoveredFlags_ForTooltip))
    preset_tooltip(theme, *preset);
}

void PolicyEditor::draw_parameter(ViewContext& context, const PolicySpec& spec, ComponentKind kind,
                                  const ParameterDecl& decl) {
  const std::string key = fmt::format("{}.{}", name(kind), decl.name);
  const std::string id = "##" + key;
  const double value = spec.parameter(kind, decl.name);
  const auto set = [&](double to) { context.send(CommandKind::set_parameter, key, to); };
  ImGui::AlignTextToFramePadding();
  ImGui::Indent(context.theme.px(10));
  text_dim(context.theme, decl.name);
  if (ImGui::IsItemHovered(ImGuiHoveredFlags_ForTooltip))
    ImGui::SetTooltip("%.*s", static_cast<int>(decl.help.size()), decl.help.data());
  ImGui::Unindent(context.theme.px(10));
  ImGui::SameLine(context.theme.px(110));
  switch (decl.type) {
    case ParameterType::boolean: {
      bool on = value != 0;
      if (ImGui::Checkbox(id.c_str(), &on)) set(on ? 1 : 0);
      break;
    }
    case ParameterType::choice: {
      const auto chosen = static_cast<std::size_t>(std::max(0.0, value));
      ImGui::SetNextItemWidth(-FLT_MIN);
      if (!ImGui::BeginCombo(id.c_str(),
                             chosen < decl.choices.size() ? std::string(decl.choices[chosen]).c_str() : "?"))
        break;
      for (std::size_t i = 0; i < decl.choices.size(); ++i)
        if (ImGui::Selectable(std::string(decl.choices[i]).c_str(), i == chosen)) set(static_cast<double>(i));
      ImGui::EndCombo();
      break;
    }
    case ParameterType::integer:
    case ParameterType::real: {
      SliderState& state = sliders_[key];
      if (decl.type == ParameterType::integer) state.value = std::round(state.value);
      const double max = slider_max(decl, context.status);
      if (value_slider(context.theme, id.c_str(), state, decl.min, std::max(max, value), value, decl.default_value,
                       shown_value(decl, state.dragging ? state.value : value).c_str(), max - decl.min > kWide))
        set(decl.type == ParameterType::integer ? std::round(state.value) : state.value);
      break;
    }
  }
}

void PolicyEditor::draw_components(ViewContext& context, const PolicySpec& spec) {
  ImGui::PushStyleVar(ImGuiStyleVar_FramePadding,
                      ImVec2{ImGui::GetStyle().FramePadding.x, context.theme.px(kRowPadding)});
  ImGui::PushStyleVar(ImGuiStyleVar_ItemSpacing, ImVec2{ImGui::GetStyle().ItemSpacing.x, context.theme.px(kRowGap)});
  for (int i = 0; i < kComponentKinds; ++i) {
    const auto kind = static_cast<ComponentKind>(i);
    const std::string& chosen = spec.components[static_cast<std::size_t>(i)];
    const ComponentDecl* decl = find_component(kind, chosen);
    if (!is_choice(kind) && (!decl || decl->parameters.empty())) continue;
    ImGui::AlignTextToFramePadding();
    text_dim(context.theme, name(kind));
    ImGui::SameLine(context.theme.px(110));
    ImGui::SetNextItemWidth(-FLT_MIN);
    if (ImGui::BeginCombo(fmt::format("##{}", name(kind)).c_str(), chosen.c_str())) {
      for (const ComponentDecl* choice : live_components(kind)) {
        const std::string label(choice->name);
        if (ImGui::Selectable(label.c_str(), label == chosen))
          context.send(CommandKind::set_component, fmt::format("{}={}", name(kind), label));
        if (ImGui::IsItemHovered())
          ImGui::SetTooltip("%.*s", static_cast<int>(choice->help.size()), choice->help.data());
      }
      ImGui::EndCombo();
    }
    if (decl && ImGui::IsItemHovered(ImGuiHoveredFlags_ForTooltip))
      ImGui::SetTooltip("%.*s", static_cast<int>(decl->help.size()), decl->help.data());
    if (decl)
      for (const ParameterDecl& parameter : decl->parameters) draw_parameter(context, spec, kind, parameter);
  }
  ImGui::PopStyleVar(2);
}

float PolicyEditor::components_height(const Theme& theme, const PolicySpec& spec) const {
  int rows = 0;
  for (int i = 0; i < kComponentKinds; ++i) {
    const auto kind = static_cast<ComponentKind>(i);
    const ComponentDecl* decl = find_component(kind, spec.components[static_cast<std::size_t>(i)]);
    const auto parameters = decl ? static_cast<int>(decl->parameters.size()) : 0;
    if (is_choice(kind) || parameters > 0) rows += 1 + parameters;
  }
  return static_cast<float>(rows) * (ImGui::GetFontSize() + theme.px(kRowPadding * 2 + kRowGap));
}

std::string PolicyEditor::summary(const PolicySpec& spec) {
  std::string text;
  for (int i = 0; i < kComponentKinds; ++i) {
    const std::string& component = spec.components[static_cast<std::size_t>(i)];
    if (component.empty() || component == "none" || !is_choice(static_cast<ComponentKind>(i))) continue;
    if (!text.empty()) text += " · ";
    text += fmt::format("{} {}", name(static_cast<ComponentKind>(i)), component);
  }
  return text;
}

}  // namespace expertscope
