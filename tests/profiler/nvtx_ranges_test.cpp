// What a tool such as Nsight Systems sees of a run.
#include "profiler/nvtx_ranges.h"

#include <cstdlib>
#include <iostream>
#include <string>

#include <gtest/gtest.h>

#ifdef ES_NVTX_TOOL
#include <dlfcn.h>
#endif

namespace expertscope {
namespace {

#ifndef ES_NVTX_TOOL

TEST(NvtxRanges, AreNotThereInAProgramWithoutCuda) {
  EXPECT_EQ(NvtxRanges::start(), nullptr);
}

#else

void launch(NvtxRanges& ranges, const LaunchTag& tag) {
  ranges.begin(tag);
  ranges.end();
}

// NVTX looks for a tool once in a program's life, so each of these is a program of its own.
void run_under_a_tool() {
  setenv("NVTX_INJECTION64_PATH", ES_NVTX_TOOL, 1);
  auto ranges = NvtxRanges::start();
  if (!ranges) std::exit(2);
  launch(*ranges, {.step = 4, .kind = WorkKind::embed});
  launch(*ranges, {.step = 4, .layer = 0, .kind = WorkKind::attention});
  launch(*ranges, {.step = 4, .layer = 1, .expert = 9, .is_copy = true, .reason = CopyReason::prefetch});
  launch(*ranges, {.step = 4, .layer = 0, .expert = 2, .kind = WorkKind::expert});
  launch(*ranges, {.step = 4, .layer = 1, .kind = WorkKind::attention});
  launch(*ranges, {.step = 5, .layer = 0, .kind = WorkKind::attention});
  ranges.reset();
  const auto heard =
      reinterpret_cast<const char* (*)()>(dlsym(dlopen(ES_NVTX_TOOL, RTLD_NOW | RTLD_NOLOAD), "nvtx_tool_heard"));
  std::cerr << heard() << std::endl;
  std::exit(0);
}

void run_without_a_tool() {
  unsetenv("NVTX_INJECTION64_PATH");
  std::exit(NvtxRanges::start() == nullptr ? 0 : 1);
}

TEST(NvtxRanges, TellTheStoryOfStepLayerAndReason) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(run_under_a_tool(), ::testing::ExitedWithCode(0),
              "ExpertScope:.step 4.embed..layer 0.attention..prefetch copy..expert...layer 1.attention....step "
              "5.layer 0.attention....");
}

TEST(NvtxRanges, AreNotThereWhenNobodyListens) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(run_without_a_tool(), ::testing::ExitedWithCode(0), "");
}

#endif

}  // namespace
}  // namespace expertscope
