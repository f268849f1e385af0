// Pictures of the workbench with a made-up session, for people to look at.
#pragma once

#include <string>

namespace expertscope {

// Writes live, opened, empty, light and selected at 1280x800 and 2560x1440 into the folder.
void write_gallery(const std::string& folder);

}  // namespace expertscope
