#include <cstdio>

#include "engine/machines/cuda_available.h"

int main() {
  std::printf("expertscope %s (%s)\n", ES_VERSION, expertscope::cuda_build_description().c_str());
  return 0;
}
