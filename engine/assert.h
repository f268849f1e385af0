// ES_ASSERT(condition, "message"): for our own mistakes, in every build type. Never for what a file or a user says.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace expertscope {

[[noreturn]] inline void assertion_failed(const char* file, int line, const char* condition, const char* message) {
  std::fprintf(stderr, "%s:%d: internal error: %s (%s)\n", file, line, message, condition);
  std::abort();
}

}  // namespace expertscope

#define ES_ASSERT(condition, message)                                           \
  do {                                                                          \
    if (!(condition)) [[unlikely]]                                              \
      ::expertscope::assertion_failed(__FILE__, __LINE__, #condition, message); \
  } while (false)
