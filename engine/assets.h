// Where the files that ship with the program are: $EXPERTSCOPE_ASSETS, else beside the executable
// (../share/expertscope, or the source tree's assets/ above a build folder).
#pragma once

#include <filesystem>

namespace expertscope {

// The assets folder. InputError that names the places looked at when there is none.
std::filesystem::path assets_dir();

}  // namespace expertscope
