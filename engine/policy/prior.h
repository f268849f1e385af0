// What a policy knows before it starts, learned from other texts. A JSON file; unknown keys are refused.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace expertscope {

struct Prior {
  std::string source;                           // where it was learned
  std::vector<std::vector<double>> popularity;  // [layer][expert]: share of the layer's picks
};

// Throws InputError with file and key when it does not fit a model of these shapes.
Prior load_prior(const std::filesystem::path&, int layers, int experts);

}  // namespace expertscope
