#include "profiler/cupti_library.h"

#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <vector>

#include <dlfcn.h>

namespace expertscope {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> toolkit_folders() {
  std::vector<fs::path> folders;
#ifdef ES_CUDA_LIBRARY_DIR
  folders.emplace_back(ES_CUDA_LIBRARY_DIR);  // of the toolkit that the program was built with
#endif
  std::vector<fs::path> toolkits;
  for (const char* variable : {"CUDA_HOME", "CUDA_PATH"})
    if (const char* value = std::getenv(variable); value != nullptr && *value != '\0') toolkits.emplace_back(value);
  toolkits.emplace_back("/usr/local/cuda");
  for (const fs::path& toolkit : toolkits)
    for (const char* folder : {"lib64", "lib", "extras/CUPTI/lib64"}) folders.push_back(toolkit / folder);
  return folders;
}

std::vector<std::string> candidates(const std::string& file_name) {
  if (const char* chosen = std::getenv("CUPTI_LIBRARY"); chosen != nullptr && *chosen != '\0') return {chosen};
  std::vector<std::string> paths = {file_name};
  std::error_code error;
  if (const fs::path program = fs::read_symlink("/proc/self/exe", error); !error) {
    paths.push_back((program.parent_path() / file_name).string());
    paths.push_back((program.parent_path().parent_path() / "lib" / file_name).string());
  }
  for (const fs::path& folder : toolkit_folders()) paths.push_back((folder / file_name).string());
  return paths;
}

}  // namespace

CuptiLibrary open_cupti_library(const std::string& file_name) {
  CuptiLibrary library;
  for (const std::string& path : candidates(file_name)) {
    // A name without a folder is the loader's to find; a path that is not there needs no complaint of its own.
    std::error_code ignored;
    const bool is_path = path.find('/') != std::string::npos;
    if (is_path && !fs::exists(path, ignored)) {
      library.problem = "there is no " + path;
      continue;
    }
    library.handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library.handle != nullptr) {
      library.path = path;
      library.problem.clear();
      return library;
    }
    library.problem = dlerror();
    if (is_path) return library;  // it is there and cannot be used: that is what the user has to know
  }
  if (std::getenv("CUPTI_LIBRARY") == nullptr)
    library.problem =
        file_name + " was found neither on the library path, nor beside the program, nor in a CUDA toolkit";
  return library;
}

}  // namespace expertscope
