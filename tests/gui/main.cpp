#include <cstdio>
#include <string>

#include "tests/gui/gallery.h"

namespace expertscope {
int run_gui_tests(const std::string& filter);
}

int main(int argc, char** argv) {
  if (argc == 3 && std::string(argv[1]) == "--gallery") {
    expertscope::write_gallery(argv[2]);
    return 0;
  }
  return expertscope::run_gui_tests(argc == 2 ? argv[1] : "");
}
