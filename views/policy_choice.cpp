#include "views/policy_choice.h"

#include <algorithm>
#include <cctype>

#include "engine/error.h"
#include "engine/policy/policy.h"

namespace expertscope {
namespace {

bool holds(std::string_view text, std::string_view wanted) {
  const auto same = [](char a, char b) {
    return std::tolower(static_cast<unsigned char>(a)) == std::tolower(static_cast<unsigned char>(b));
  };
  return std::search(text.begin(), text.end(), wanted.begin(), wanted.end(), same) != text.end();
}

// An oracle's component: presets use it, and all of them exist in replay alone.
bool needs_the_future(const ComponentDecl& decl) {
  bool used = false;
  for (const PresetDecl& preset : preset_decls()) {
    if (preset.components[static_cast<std::size_t>(decl.kind)] != decl.name) continue;
    if (!preset.replay_only) return false;
    used = true;
  }
  return used;
}

}  // namespace

std::vector<PresetGroup> live_presets(std::string_view filter) {
  std::vector<PresetGroup> groups = {{"Baselines", {}}, {"Published systems", {}}};
  for (const PresetDecl& preset : preset_decls()) {
    if (preset.replay_only) continue;
    if (!holds(preset.name, filter) && !holds(preset.paper, filter) && !holds(preset.help, filter)) continue;
    groups[preset.paper == "baseline" ? 0 : 1].presets.push_back(&preset);
  }
  std::erase_if(groups, [](const PresetGroup& group) { return group.presets.empty(); });
  return groups;
}

std::vector<const ComponentDecl*> live_components(ComponentKind kind) {
  std::vector<const ComponentDecl*> choices;
  for (const ComponentDecl& decl : component_decls())
    if (decl.kind == kind && !needs_the_future(decl)) choices.push_back(&decl);
  return choices;
}

bool is_inexact_policy(std::string_view spec) {
  try {
    return !Policy(parse_policy_spec(spec)).exact();
  } catch (const InputError&) {
    return false;
  }
}

}  // namespace expertscope
