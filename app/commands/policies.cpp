#include "app/commands/policies.h"

#include <algorithm>
#include <memory>
#include <vector>

#include <fmt/format.h>

#include "engine/error.h"
#include "engine/policy/registry.h"

namespace expertscope {
namespace {

using Json = nlohmann::ordered_json;

const char* type_name(ParameterType type) {
  switch (type) {
    case ParameterType::integer:
      return "integer";
    case ParameterType::real:
      return "real";
    case ParameterType::boolean:
      return "boolean";
    case ParameterType::choice:
      return "choice";
  }
  return "?";
}

// In JSON a whole number stays one, a truth value is true or false, a choice is its name.
Json value_of(const ParameterDecl& parameter, double value) {
  switch (parameter.type) {
    case ParameterType::integer:
      return static_cast<std::int64_t>(value);
    case ParameterType::boolean:
      return value != 0;
    case ParameterType::choice:
      return parameter.choices.at(static_cast<std::size_t>(value));
    case ParameterType::real:
      break;
  }
  return value;
}

Json parameter_json(const ParameterDecl& parameter) {
  Json json = {{"name", parameter.name}, {"type", type_name(parameter.type)}};
  if (parameter.type == ParameterType::choice) {
    json["choices"] = parameter.choices;
    json["min"] = parameter.choices.front();
    json["max"] = parameter.choices.back();
  } else {
    json["min"] = value_of(parameter, parameter.min);
    json["max"] = value_of(parameter, parameter.max);
  }
  json["default"] = value_of(parameter, parameter.default_value);
  json["unit"] = parameter.unit;
  json["help"] = parameter.help;
  return json;
}

Json component_json(const ComponentDecl& component) {
  Json parameters = Json::array();
  for (const ParameterDecl& parameter : component.parameters) parameters.push_back(parameter_json(parameter));
  return {{"kind", name(component.kind)},
          {"name", component.name},
          {"help", component.help},
          {"parameters", std::move(parameters)}};
}

Json preset_json(const PresetDecl& preset) {
  Json components = Json::object();
  for (int kind = 0; kind < kComponentKinds; ++kind)
    components[std::string(name(static_cast<ComponentKind>(kind)))] = preset.components[static_cast<std::size_t>(kind)];
  return {{"name", preset.name},
          {"paper", preset.paper},
          {"exact", preset.exact},
          {"help", preset.help},
          {"replay_only", preset.replay_only},
          {"components", std::move(components)}};
}

std::string parameter_text(const ComponentDecl& component, const ParameterDecl& parameter) {
  const Json json = parameter_json(parameter);
  std::string range;
  if (parameter.type == ParameterType::choice) {
    for (const std::string_view choice : parameter.choices) range += (range.empty() ? "" : "|") + std::string(choice);
  } else {
    range = json["min"].dump() + ".." + json["max"].dump();
  }
  const std::string fallback =
      json["default"].is_string() ? json["default"].get<std::string>() : json["default"].dump();
  return fmt::format("      {}.{}  {}{}{} [{}]  {}\n", name(component.kind), parameter.name, range,
                     parameter.unit.empty() ? "" : " ", parameter.unit, fallback, parameter.help);
}

std::string component_text(const ComponentDecl& component) {
  std::string text = fmt::format("  {}={}  {}\n", name(component.kind), component.name, component.help);
  for (const ParameterDecl& parameter : component.parameters) text += parameter_text(component, parameter);
  return text;
}

std::string preset_text(const PresetDecl& preset) {
  std::string parts;
  for (int kind = 0; kind < kComponentKinds; ++kind)
    parts += fmt::format("{}{}={}", kind == 0 ? "" : ", ", name(static_cast<ComponentKind>(kind)),
                         preset.components[static_cast<std::size_t>(kind)]);
  return fmt::format("  {} ({}, {}{})\n    {}\n    {}\n", preset.name, preset.paper, preset.exact ? "exact" : "lossy",
                     preset.replay_only ? ", replay alone" : "", preset.help, parts);
}

bool uses(const PresetDecl& preset, const ComponentDecl& component) {
  return preset.components[static_cast<std::size_t>(component.kind)] == component.name;
}

// The preset of that name with its components, or the components of that name; all for "".
struct Choice {
  std::vector<const PresetDecl*> presets;
  std::vector<const ComponentDecl*> components;
};

Choice choose(const std::string& wanted) {
  Choice choice;
  for (const PresetDecl& preset : preset_decls())
    if (wanted.empty() || preset.name == wanted) choice.presets.push_back(&preset);
  for (const ComponentDecl& component : component_decls()) {
    const bool used = !wanted.empty() && std::any_of(choice.presets.begin(), choice.presets.end(),
                                                     [&](const auto* p) { return uses(*p, component); });
    if (wanted.empty() || used || component.name == wanted) choice.components.push_back(&component);
  }
  if (choice.presets.empty() && choice.components.empty()) {
    std::string known;
    for (const PresetDecl& preset : preset_decls()) known += (known.empty() ? "" : ", ") + std::string(preset.name);
    throw InputError(fmt::format("'{}' is neither a preset nor a component; the presets are {}", wanted, known));
  }
  return choice;
}

int show(const std::string& wanted, bool json) {
  const Choice choice = choose(wanted);
  Json presets = Json::array(), components = Json::array();
  std::string text = "Presets\n";
  for (const PresetDecl* preset : choice.presets) {
    presets.push_back(preset_json(*preset));
    text += preset_text(*preset);
  }
  text += "\nComponents and their parameters: range, unit, [default]\n";
  for (const ComponentDecl* component : choice.components) {
    components.push_back(component_json(*component));
    text += component_text(*component);
  }
  if (json)
    print_json({{"presets", std::move(presets)}, {"components", std::move(components)}});
  else
    print(text);
  return kExitDone;
}

}  // namespace

void add_policies(CLI::App& program, Action& action) {
  struct Options {
    std::string name;
    bool json = false;
  };
  const auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand("policies", "Presets, components and their parameters");
  command->add_option("NAME", options->name, "A preset or a component");
  command->add_flag("--json", options->json, "As JSON");
  command->callback([&action, options] { action = [options] { return show(options->name, options->json); }; });
}

}  // namespace expertscope
