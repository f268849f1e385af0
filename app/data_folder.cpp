#include "app/data_folder.h"

#include <cstdlib>
#include <string>
#include <system_error>

#include <fmt/format.h>

#include "engine/error.h"

namespace fs = std::filesystem;

namespace expertscope {
namespace {

std::string environment(const char* variable) {
  const char* value = std::getenv(variable);
  return value == nullptr ? "" : value;
}

}  // namespace

fs::path data_folder(const char* name) {
  fs::path folder = name;
  if (const std::string data = environment("XDG_DATA_HOME"); !data.empty())
    folder = fs::path(data) / "expertscope" / name;
  else if (const std::string home = environment("HOME"); !home.empty())
    folder = fs::path(home) / ".local" / "share" / "expertscope" / name;
  return fs::absolute(folder).lexically_normal();
}

fs::path make_data_folder(const char* name) {
  const fs::path folder = data_folder(name);
  std::error_code error;
  fs::create_directories(folder, error);
  if (error)
    throw InputError(fmt::format("{}: the folder for {} cannot be made: {}; set XDG_DATA_HOME", folder.string(), name,
                                 error.message()));
  return folder;
}

}  // namespace expertscope
