// A stand-in for the NVIDIA driver's library, for tests of what the program says where there is no good one. It has a
// version, FAKE_CUDA_VERSION in the environment (12020: CUDA 12.2), and nothing else.
#include <cstdint>
#include <cstdlib>
#include <cstring>

extern "C" {

int cuInit(unsigned) {
  return 0;
}

int cuDriverGetVersion(int* version) {
  const char* text = std::getenv("FAKE_CUDA_VERSION");
  *version = text == nullptr ? 12020 : std::atoi(text);
  return 0;
}

// CUDA's runtime finds everything through this.
int cuGetProcAddress_v2(const char* name, void** function, int, std::uint64_t, int* status) {
  constexpr int kNotFound = 500;
  const struct {
    const char* name;
    void* function;
  } known[] = {{"cuInit", reinterpret_cast<void*>(&cuInit)},
               {"cuDriverGetVersion", reinterpret_cast<void*>(&cuDriverGetVersion)},
               {"cuGetProcAddress", reinterpret_cast<void*>(&cuGetProcAddress_v2)}};
  *function = nullptr;
  for (const auto& entry : known)
    if (std::strcmp(name, entry.name) == 0) *function = entry.function;
  if (status != nullptr) *status = *function == nullptr ? 1 : 0;
  return *function == nullptr ? kNotFound : 0;
}

int cuGetProcAddress(const char* name, void** function, int version, std::uint64_t flags) {
  return cuGetProcAddress_v2(name, function, version, flags, nullptr);
}
}
