// The model that ships with the program.
#pragma once

#include <filesystem>

#include "engine/model/model.h"

namespace expertscope {

std::filesystem::path demo_model_path();
std::filesystem::path demo_prompts_path();
std::filesystem::path demo_workloads_path();  // longer prompts

// By its place in the assets, or by its content: a copy of it elsewhere is still the demo model.
bool is_demo_model(const Model&);

}  // namespace expertscope
