// Compile-time configuration of Dear ImGui, seen by it and by everything that includes it.
#pragma once

// A timeline easily draws more than 65,535 vertices in one window.
#define ImDrawIdx unsigned int
#define IMGUI_DISABLE_OBSOLETE_FUNCTIONS
#define IMGUI_DISABLE_DEMO_WINDOWS

#ifdef ES_IMGUI_TEST_ENGINE
#include <cstdio>
#include <cstdlib>
// Misuse of ImGui ends the tests in every build type.
#define IM_ASSERT(condition)                                                                       \
  do {                                                                                             \
    if (!(condition)) {                                                                            \
      std::fprintf(stderr, "%s:%d: ImGui assertion failed: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                                \
    }                                                                                              \
  } while (false)
#define IMGUI_ENABLE_TEST_ENGINE
#define IMGUI_TEST_ENGINE_ENABLE_COROUTINE_STDTHREAD_IMPL 1
#define IMGUI_TEST_ENGINE_ENABLE_STD_FUNCTION 1
#define IMGUI_TEST_ENGINE_ENABLE_CAPTURE 0
#define IMGUI_TEST_ENGINE_ENABLE_IMPLOT 1
#include "imgui_te_imconfig.h"
#endif
// ImPlot instantiates every plot for ten number types; we plot doubles and floats. Saves a minute of every build.
#define IMPLOT_CUSTOM_NUMERIC_TYPES (float)(double)
