// The written form of a policy: "preset:kind=component,kind.parameter=value".
#include <charconv>
#include <cmath>
#include <optional>

#include <fmt/format.h>

#include "engine/error.h"
#include "engine/policy/registry.h"

namespace expertscope {
namespace {

std::optional<ComponentKind> find_kind(std::string_view text) {
  for (int k = 0; k < kComponentKinds; ++k) {
    if (name(static_cast<ComponentKind>(k)) == text) return static_cast<ComponentKind>(k);
  }
  return std::nullopt;
}

std::string kinds_listed() {
  std::string out;
  for (int k = 0; k < kComponentKinds; ++k) out += (k ? ", " : "") + std::string(name(static_cast<ComponentKind>(k)));
  return out;
}

const ParameterDecl* find_parameter(const ComponentDecl& component, std::string_view parameter) {
  for (const ParameterDecl& p : component.parameters) {
    if (p.name == parameter) return &p;
  }
  return nullptr;
}

ComponentKind require_kind(std::string_view text) {
  const auto kind = find_kind(text);
  if (!kind)
    throw InputError(fmt::format("policy: '{}' is not a kind of component: use one of {}", text, kinds_listed()));
  return *kind;
}

double parse_value(const ParameterDecl& p, std::string_view key, std::string_view text) {
  if (p.type == ParameterType::choice) {
    for (std::size_t i = 0; i < p.choices.size(); ++i) {
      if (p.choices[i] == text) return static_cast<double>(i);
    }
    // Sliders and scripts give the number of a choice; written lists give its name.
  }
  if (p.type == ParameterType::boolean && (text == "true" || text == "false")) return text == "true" ? 1 : 0;
  double value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = p.type == ParameterType::real || value == std::floor(value);
  if (failed != std::errc{} || end != text.data() + text.size() || !std::isfinite(value) || !whole || value < p.min ||
      value > p.max) {
    std::string allowed =
        p.choices.empty()
            ? fmt::format("{}{} to {}{}{}", whole || p.type == ParameterType::real ? "" : "a whole number, ", p.min,
                          p.max, p.unit.empty() ? "" : " ", p.unit)
            : fmt::format("one of {}", fmt::join(p.choices, ", "));
    throw InputError(fmt::format("policy: {}={} is not allowed: give {}", key, text, allowed));
  }
  return value;
}

std::string write_value(const ParameterDecl& p, double value) {
  if (p.type == ParameterType::choice) return std::string(p.choices[static_cast<std::size_t>(value)]);
  if (p.type == ParameterType::boolean) return value != 0 ? "true" : "false";
  return fmt::format("{}", value);
}

void set_parameter(PolicySpec& spec, std::string_view key, std::string_view value);

// The preset's own parameters of one kind of component.
void apply_preset_settings(PolicySpec& spec, const PresetDecl& preset, std::string_view kind_text) {
  for (const std::string_view setting : preset.settings) {
    const std::size_t equals = setting.find('=');
    const std::string_view key = setting.substr(0, equals);
    if (key.substr(0, key.find('.')) == kind_text) set_parameter(spec, key, setting.substr(equals + 1));
  }
}

void set_component(PolicySpec& spec, std::string_view kind_text, std::string_view component) {
  const ComponentKind kind = require_kind(kind_text);
  if (find_component(kind, component) == nullptr) {
    std::string known;
    for (const ComponentDecl& c : component_decls()) {
      if (c.kind == kind) known += (known.empty() ? "" : ", ") + std::string(c.name);
    }
    throw InputError(fmt::format("policy: '{}' is not a known {}: choose one of {}", component, kind_text, known));
  }
  spec.components[static_cast<std::size_t>(kind)] = component;
  // Parameters of the component that was replaced mean nothing to the new one.
  std::erase_if(spec.parameters, [&](const auto& p) { return p.first.starts_with(std::string(kind_text) + "."); });
  const PresetDecl* preset = find_preset(spec.preset);
  if (preset != nullptr && preset->components[static_cast<std::size_t>(kind)] == component)
    apply_preset_settings(spec, *preset, kind_text);
}

void set_parameter(PolicySpec& spec, std::string_view key, std::string_view value) {
  const std::size_t dot = key.find('.');
  const ComponentKind kind = require_kind(key.substr(0, dot));
  const std::string& component = spec.components[static_cast<std::size_t>(kind)];
  const ComponentDecl& decl = *find_component(kind, component);
  const ParameterDecl* p = find_parameter(decl, key.substr(dot + 1));
  if (p == nullptr) {
    std::string known;
    for (const ParameterDecl& d : decl.parameters) known += (known.empty() ? "" : ", ") + std::string(d.name);
    throw InputError(fmt::format("policy: {} '{}' has no parameter '{}': {}", name(kind), component,
                                 key.substr(dot + 1), known.empty() ? "it has none" : "it has " + known));
  }
  const double v = parse_value(*p, key, value);
  spec.parameters.erase(std::string(key));
  if (v != p->default_value) spec.parameters[std::string(key)] = v;
}

}  // namespace

double PolicySpec::parameter(ComponentKind kind, std::string_view parameter_name) const {
  const auto it = parameters.find(std::string(name(kind)) + "." + std::string(parameter_name));
  if (it != parameters.end()) return it->second;
  const ComponentDecl* decl = find_component(kind, components[static_cast<std::size_t>(kind)]);
  const ParameterDecl* p = decl != nullptr ? find_parameter(*decl, parameter_name) : nullptr;
  return p != nullptr ? p->default_value : 0;
}

void apply_setting(PolicySpec& spec, std::string_view setting) {
  const std::size_t equals = setting.find('=');
  if (equals == std::string_view::npos || equals == 0 || equals + 1 == setting.size()) {
    throw InputError(
        fmt::format("policy: '{}' is not a setting: write kind=component or kind.parameter=value", setting));
  }
  const std::string_view key = setting.substr(0, equals), value = setting.substr(equals + 1);
  key.find('.') == std::string_view::npos ? set_component(spec, key, value) : set_parameter(spec, key, value);
}

PolicySpec parse_policy_spec(std::string_view text) {
  const std::size_t colon = text.find(':');
  const std::string_view preset_name = text.substr(0, colon);
  const PresetDecl* preset = find_preset(preset_name);
  if (preset == nullptr) {
    std::string known;
    for (const PresetDecl& p : preset_decls()) known += (known.empty() ? "" : ", ") + std::string(p.name);
    throw InputError(fmt::format("policy '{}' is not known: choose one of {}", preset_name, known));
  }
  PolicySpec spec;
  spec.preset = preset_name;
  for (std::size_t k = 0; k < kComponentKinds; ++k) spec.components[k] = preset->components[k];
  for (int k = 0; k < kComponentKinds; ++k) apply_preset_settings(spec, *preset, name(static_cast<ComponentKind>(k)));
  if (colon == std::string_view::npos) return spec;

  // Components first: a parameter belongs to the component that is in force in the end.
  for (const bool parameters : {false, true}) {
    std::string_view rest = text.substr(colon + 1);
    while (true) {
      const std::size_t comma = rest.find(',');
      const std::string_view setting = rest.substr(0, comma);
      if ((setting.substr(0, setting.find('=')).find('.') != std::string_view::npos) == parameters)
        apply_setting(spec, setting);
      if (comma == std::string_view::npos) break;
      rest = rest.substr(comma + 1);
    }
  }
  return spec;
}

std::string to_string(const PolicySpec& spec) {
  const PresetDecl* preset = find_preset(spec.preset);
  std::string settings;
  const auto add = [&](const std::string& setting) { settings += (settings.empty() ? ":" : ",") + setting; };
  for (std::size_t k = 0; k < kComponentKinds; ++k) {
    const auto kind = static_cast<ComponentKind>(k);
    if (preset == nullptr || spec.components[k] != preset->components[k])
      add(fmt::format("{}={}", name(kind), spec.components[k]));
  }
  // A parameter is written when it differs from what the preset and the components already say.
  PolicySpec unset = preset != nullptr ? parse_policy_spec(spec.preset) : PolicySpec{};
  for (std::size_t k = 0; k < kComponentKinds; ++k) {
    if (spec.components[k] != unset.components[k])
      set_component(unset, name(static_cast<ComponentKind>(k)), spec.components[k]);
  }
  std::map<std::string, double> differing = spec.parameters;
  for (const auto& [key, value] : unset.parameters) {
    const auto it = differing.find(key);
    if (it == differing.end()) {
      differing[key] = spec.parameter(require_kind(key.substr(0, key.find('.'))), key.substr(key.find('.') + 1));
    } else if (it->second == value) {
      differing.erase(it);
    }
  }
  for (const auto& [key, value] : differing) {
    const std::size_t dot = key.find('.');
    const ComponentKind kind = require_kind(std::string_view(key).substr(0, dot));
    const ComponentDecl* decl = find_component(kind, spec.components[static_cast<std::size_t>(kind)]);
    const ParameterDecl* p = decl != nullptr ? find_parameter(*decl, std::string_view(key).substr(dot + 1)) : nullptr;
    if (p != nullptr) add(key + "=" + write_value(*p, value));
  }
  return spec.preset + settings;
}

}  // namespace expertscope
