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

// Both throw InputError with file and key when it does not fit a model of these shapes.
Prior load_prior(const std::filesystem::path&, int layers, int experts);
Prior parse_prior(const std::string& json_text, const std::string& origin, int layers, int experts);
std::string to_json(const Prior&);

}  // namespace expertscope
