// Declarations of parameters, one line each.
#pragma once

#include <initializer_list>
#include <string_view>

#include "engine/policy/registry.h"

namespace expertscope::components {

inline ParameterDecl whole(std::string_view name, double min, double max, double standard, std::string_view unit,
                           std::string_view help) {
  return {.name = name,
          .type = ParameterType::integer,
          .min = min,
          .max = max,
          .default_value = standard,
          .unit = unit,
          .help = help,
          .choices = {}};
}

inline ParameterDecl real(std::string_view name, double min, double max, double standard, std::string_view unit,
                          std::string_view help) {
  return {.name = name,
          .type = ParameterType::real,
          .min = min,
          .max = max,
          .default_value = standard,
          .unit = unit,
          .help = help,
          .choices = {}};
}

inline ParameterDecl flag(std::string_view name, bool standard, std::string_view help) {
  return {.name = name,
          .type = ParameterType::boolean,
          .min = 0,
          .max = 1,
          .default_value = standard ? 1.0 : 0.0,
          .unit = "",
          .help = help,
          .choices = {}};
}

// The first choice is the default.
inline ParameterDecl choice(std::string_view name, std::initializer_list<std::string_view> choices,
                            std::string_view help) {
  return {.name = name,
          .type = ParameterType::choice,
          .min = 0,
          .max = static_cast<double>(choices.size()) - 1,
          .default_value = 0,
          .unit = "",
          .help = help,
          .choices = choices};
}

// Of every capacity component.
inline ParameterDecl balance() {
  return choice(
      "balance", {"even", "greedy", "anti-correlation"},
      "On machines with several GPUs, which experts share one: neighbours by number; by a prior's mean loads, "
      "the busiest first to the least loaded; or also apart when they are busy together.");
}

inline ParameterDecl prefill_too() {
  return flag("prefill", false, "Also prefetch while a prompt is read, when nearly every expert is wanted anyway.");
}

inline ParameterDecl cancel_refuted() {
  return flag("cancel", true, "Drop queued prefetches that the layer's own router did not confirm.");
}

}  // namespace expertscope::components
