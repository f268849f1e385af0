// Every policy component and preset that exists, declared once: the command line, the session file, `expertscope
// policies` and the sliders all read these declarations.
//
// Where a new one goes: a component is a class in engine/policy/components/<kind>_<name>.cpp with its ComponentDecl,
// listed in registry.cpp; a preset is one row of the table in presets.cpp.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace expertscope {

// The components of a policy (design: reference/policies.md C1 names the decisions D1..D15).
enum class ComponentKind : std::uint8_t {
  predictor,
  prefetcher,
  evictor,
  allocator,
  placer,
  gate,
  precision,
  capacity,
  scheduler
};
inline constexpr int kComponentKinds = 9;
std::string_view name(ComponentKind);

enum class ParameterType : std::uint8_t { integer, real, boolean, choice };

struct ParameterDecl {
  std::string_view name;
  ParameterType type = ParameterType::real;
  double min = 0, max = 1, default_value = 0;  // choice: indices into `choices`
  std::string_view unit;                       // "", "layers", "tokens", ...
  std::string_view help;                       // one sentence
  std::vector<std::string_view> choices;       // of type choice
};

struct ComponentDecl {
  ComponentKind kind = ComponentKind::predictor;
  std::string_view name;
  std::string_view help;  // one sentence
  std::vector<ParameterDecl> parameters;
};

struct PresetDecl {
  std::string_view name;
  std::string_view paper;                                    // paper, project, or "baseline"
  std::string_view help;                                     // one sentence
  bool exact = true;                                         // with its defaults
  bool replay_only = false;                                  // needs to know the future (belady)
  std::array<std::string_view, kComponentKinds> components;  // by ComponentKind
  std::vector<std::string_view> settings{};  // parameters that differ from their defaults: "evictor.order=access"
};

std::span<const ComponentDecl> component_decls();
std::span<const PresetDecl> preset_decls();
const ComponentDecl* find_component(ComponentKind, std::string_view name);  // nullptr when there is none
const PresetDecl* find_preset(std::string_view name);

// A policy as the user names it: a preset, components swapped by kind, parameters set by kind and name.
struct PolicySpec {
  std::string preset;
  std::array<std::string, kComponentKinds> components;  // resolved names
  std::map<std::string, double> parameters;  // "prefetcher.depth" -> 2; only those that differ from their defaults

  double parameter(ComponentKind, std::string_view parameter_name) const;  // value in force
  bool operator==(const PolicySpec&) const = default;
};

// "on-demand", "hobbit:evictor=lcu,prefetcher.depth=2". InputError names what is unknown or out of range and what
// exists.
PolicySpec parse_policy_spec(std::string_view);
// Applies one "evictor=lfu" or "prefetcher.depth=2" to a spec. InputError as above.
void apply_setting(PolicySpec&, std::string_view setting);
std::string to_string(const PolicySpec&);  // canonical: parse_policy_spec(to_string(s)) == s

}  // namespace expertscope
