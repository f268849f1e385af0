// What is in a model file: `expertscope info`. Reads the header only, so that it is quick for files of any size.
#pragma once

#include <filesystem>
#include <string>

#include <nlohmann/json.hpp>

namespace expertscope {

// Shapes, router rule, tensors by type, bytes, tokenizer, and how many experts common budgets keep on a GPU. Texts from
// the file are escaped. Throws InputError for a file that cannot be run.
nlohmann::json model_info(const std::filesystem::path& path);

// The same for people.
std::string model_info_text(const nlohmann::json& info);

}  // namespace expertscope
