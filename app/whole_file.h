// Files that appear whole or not at all.
#pragma once

#include <filesystem>
#include <string>

namespace expertscope {

// The folder of a file to be written. InputError, naming the option, unless it is there: asked before the work whose
// result goes there.
std::filesystem::path folder_of(const std::filesystem::path& out, const std::string& option);
// Replaces an earlier file. RunError when it cannot be written.
void write_whole(const std::filesystem::path& out, const std::string& text);

}  // namespace expertscope
