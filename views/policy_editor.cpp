#include "views/policy_editor.h"

#include <cmath>

#include "imgui.h"
#include <fmt/format.h>

#include "engine/error.h"
#include "views/format.h"

namespace expertscope {
namespace {

constexpr double kRowPadding = 2, kRowGap = 2;  // tighter than elsewhere: there are many of them

std::vector<const ComponentDecl*> choices_of(ComponentKind kind) {
  std::vector<const ComponentDecl*> choices;
  for (const ComponentDecl& decl : component_decls())
    if (decl.kind == kind) choices.push_back(&decl);
  return choices;
}

// Oracles cannot run live.
bool needs_the_future(ComponentKind kind, std::string_view name) {
  for (const PresetDecl& preset : preset_decls())
    if (preset.replay_only && preset.components[static_cast<std::size_t>(kind)] == name) {
      for (const PresetDecl& other : preset_decls())
        if (!other.replay_only && other.components[static_cast<std::size_t>(kind)] == name) return false;
      return true;
    }
  return false;
}

bool is_choice(ComponentKind kind) {
  int live = 0;
  for (const ComponentDecl* decl : choices_of(kind)) live += !needs_the_future(kind, decl->name);
  return live > 1;
}

std::string shown_value(const ParameterDecl& decl, double value) {
  std::string text = decl.type == ParameterType::integer ? fmt::format("{:.0f}", value) : format_significant(value);
  if (!decl.unit.empty()) text += fmt::format(" {}", decl.unit);
  return text;
}

}  // namespace

const PolicySpec* PolicyEditor::spec_of(const std::string& text) {
  if (text != text_) {
    text_ = text;
    try {
      spec_ = parse_policy_spec(text);
      valid_ = true;
    } catch (const InputError&) {
      valid_ = false;
    }
  }
  return valid_ ? &spec_ : nullptr;
}

void PolicyEditor::draw_presets(ViewContext& context, const PolicySpec* spec) {
  const std::string shown = spec ? spec->preset : context.status.policy_spec;
  ImGui::SetNextItemWidth(-FLT_MIN);
  if (ImGui::BeginCombo("##policy", shown.c_str(), ImGuiComboFlags_HeightLargest)) {
    for (const PresetDecl& preset : preset_decls()) {
      if (preset.replay_only) continue;
      ImGui::PushID(preset.name.data());
      const std::string label(preset.name);
      if (ImGui::Selectable(label.c_str(), label == shown)) context.send(CommandKind::set_policy, label);
      ImGui::PushTextWrapPos(ImGui::GetCursorPosX() + context.theme.px(330));
      ImGui::PushFont(nullptr, context.theme.small_font());
      ImGui::PushStyleColor(ImGuiCol_Text, context.colors().text_dim);
      ImGui::TextUnformatted(preset.help.data(), preset.help.data() + preset.help.size());
      ImGui::PopStyleColor();
      ImGui::PopFont();
      ImGui::PopTextWrapPos();
      ImGui::PopID();
    }
    ImGui::EndCombo();
  }
  if (const PresetDecl* preset = find_preset(shown); preset && ImGui::IsItemHovered(ImGuiHoveredFlags_ForTooltip))
    tooltip(context.theme, preset->name,
            {{"does", std::string(preset->help)},
             {"from", std::string(preset->paper)},
             {"output", preset->exact ? "unchanged" : "approximate"}});
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
      if (value_slider(context.theme, id.c_str(), state, decl.min, decl.max, value, decl.default_value,
                       shown_value(decl, state.dragging ? state.value : value).c_str()))
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
      for (const ComponentDecl* choice : choices_of(kind)) {
        if (needs_the_future(kind, choice->name)) continue;
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
