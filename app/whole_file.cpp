#include "app/whole_file.h"

#include <fstream>
#include <system_error>

#include <fmt/format.h>

#include "engine/error.h"

namespace expertscope {

std::filesystem::path folder_of(const std::filesystem::path& out, const std::string& option) {
  const std::filesystem::path folder = out.has_parent_path() ? out.parent_path() : std::filesystem::path(".");
  if (!std::filesystem::is_directory(folder))
    throw InputError(fmt::format("{}: there is no folder {}; make it first", option, folder.string()));
  if (std::filesystem::is_directory(out))
    throw InputError(fmt::format("{}: {} is a folder; name a file", option, out.string()));
  return folder;
}

void write_whole(const std::filesystem::path& out, const std::string& text) {
  const std::filesystem::path draft = out.string() + ".new";
  std::ofstream file(draft, std::ios::binary | std::ios::trunc);
  file << text;
  std::error_code error;
  if (file.flush()) std::filesystem::rename(draft, out, error);
  if (file && !error) return;
  std::filesystem::remove(draft, error);
  throw RunError(out.string() + ": cannot be written; check the path and that the disk has room");
}

}  // namespace expertscope
