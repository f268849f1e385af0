// A report's headline numbers as a few lines for people.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

namespace expertscope {

std::string summary_of(const nlohmann::ordered_json& report);

}  // namespace expertscope
