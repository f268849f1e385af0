#include "engine/assets.h"

#include <cstdlib>
#include <string>

#include "engine/error.h"

namespace expertscope {

namespace fs = std::filesystem;

fs::path assets_dir() {
  if (const char* given = std::getenv("EXPERTSCOPE_ASSETS")) {
    if (fs::is_directory(given)) return given;
    throw InputError("EXPERTSCOPE_ASSETS: '" + std::string(given) +
                     "' is not a folder: unset it or give the folder with machines/ and model/");
  }
  std::error_code failed;
  const fs::path program = fs::read_symlink("/proc/self/exe", failed).parent_path();
  // Installed, then up from build/<preset>/ and its subfolders.
  for (fs::path up : {program / "../share/expertscope", program / "assets", program / "../assets",
                      program / "../../assets", program / "../../../assets"}) {
    if (fs::is_directory(up / "machines", failed)) return fs::weakly_canonical(up);
  }
#ifdef ES_ASSETS_DIR  // of the source tree it was built from
  if (fs::is_directory(fs::path(ES_ASSETS_DIR) / "machines", failed)) return ES_ASSETS_DIR;
#endif
  throw InputError("the assets folder was not found beside " + program.string() + ": set EXPERTSCOPE_ASSETS to it");
}

}  // namespace expertscope
