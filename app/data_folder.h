// Where the program keeps what belongs to its user.
#pragma once

#include <filesystem>

namespace expertscope {

// $XDG_DATA_HOME/expertscope/NAME, else ~/.local/share/expertscope/NAME, else ./NAME. It need not exist.
std::filesystem::path data_folder(const char* name);

// The same, made when it is not there. InputError when that fails.
std::filesystem::path make_data_folder(const char* name);

}  // namespace expertscope
