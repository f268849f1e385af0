// Widgets for a policy's components and parameters, generated from the registry's declarations.
#pragma once

#include <map>
#include <string>

#include "engine/policy/registry.h"
#include "views/view.h"
#include "views/widgets.h"

namespace expertscope {

class PolicyEditor {
 public:
  // The policy in force, as the engine says; parsed once for each text. nullptr when it cannot be read.
  const PolicySpec* spec_of(const std::string& text);
  // Whether that policy may change the output.
  bool inexact() const { return inexact_; }
  // Preset chooser with each preset's help; sends set_policy.
  void draw_presets(ViewContext&, const PolicySpec*);
  // Components that can be swapped and their parameters; sends set_component and set_parameter.
  void draw_components(ViewContext&, const PolicySpec&);
  // Height of draw_components for this policy, in pixels.
  float components_height(const Theme&, const PolicySpec&) const;
  // One line: the components that do something.
  static std::string summary(const PolicySpec&);

 private:
  void draw_preset(ViewContext&, const PresetDecl&, bool chosen);
  void draw_parameter(ViewContext&, const PolicySpec&, ComponentKind, const ParameterDecl&);

  std::string text_;
  PolicySpec spec_;
  bool valid_ = false, inexact_ = false;
  std::string filter_;  // of the presets
  std::map<std::string, SliderState> sliders_;
};

}  // namespace expertscope
