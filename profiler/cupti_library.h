// Finds CUPTI's library at run time: the program is not linked to it, so that it starts where there is none.
#pragma once

#include <string>

namespace expertscope {

struct CuptiLibrary {
  void* handle = nullptr;  // of dlopen; never closed: its threads may outlive us. nullptr: not found
  std::string path;        // what was opened
  std::string problem;     // when not found: where it was looked for and why not
};

// Looks at $CUPTI_LIBRARY alone when that is set; else on the loader's path, beside the program, and in the folders of
// CUDA toolkits.
CuptiLibrary open_cupti_library(const std::string& file_name);

}  // namespace expertscope
