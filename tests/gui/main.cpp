// Drives the real workbench in a real window with Dear ImGui Test Engine, first over a made-up engine, then over the
// real one. `--gallery FOLDER` writes pictures instead, `--frame-times RECORDS` measures; another argument is a filter
// of test names.
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/lsan_interface.h>
#endif

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <string>
#include <vector>

#include "imgui.h"
#include "imgui_te_engine.h"

#include "app/window.h"
#include "tests/gui/frame_times.h"
#include "tests/gui/gallery.h"
#include "tests/gui/gui_harness.h"
#include "tests/gui/workbench_tests.h"

namespace expertscope {
namespace {

struct Score {
  int run = 0, passed = 0;
};

Score run_category(Window& window, ImGuiTestEngine* engine, GuiHarness& harness, const std::string& filter) {
  Workbench workbench(harness.hooks(), window.scale());
  World world{&harness, &workbench};
  ImGuiTestEngine_UnregisterAllTests(engine);
  register_workbench_tests(engine, harness.name(), world);
  ImGuiTestEngine_QueueTests(engine, ImGuiTestGroup_Tests, filter.empty() ? nullptr : filter.c_str(),
                             ImGuiTestRunFlags_RunFromCommandLine);
  std::vector<Command> commands;
  while (!ImGuiTestEngine_IsTestQueueEmpty(engine) && !window.should_close()) {
    window.wait(0);
    harness.pump();
    window.begin_frame();
    commands.clear();
    workbench.draw(harness.trace(), harness.status(), window.now_s(), commands);
    harness.send(commands);
    window.end_frame();
    ImGuiTestEngine_PostSwap(engine);
  }
  ImGuiTestEngineResultSummary summary;
  ImGuiTestEngine_GetResultSummary(engine, &summary);
  ImVector<ImGuiTest*> tests;
  ImGuiTestEngine_GetTestList(engine, &tests);
  for (const ImGuiTest* test : tests)
    std::printf("[%s] %s: %s\n",
                test->Output.Status == ImGuiTestStatus_Success   ? "  OK  "
                : test->Output.Status == ImGuiTestStatus_Unknown ? "      "
                                                                 : "FAILED",
                harness.name(), test->Name.c_str());
  return {summary.CountTested, summary.CountSuccess};
}

int run_gui_tests(const std::string& filter) {
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() /
      ("expertscope-gui-" + std::to_string(std::hash<std::string>{}(std::filesystem::current_path().string())));
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  Score total;
  ImGuiTestEngine* engine = ImGuiTestEngine_CreateContext();
  {
    Window window({.width = 1280,
                   .height = 800,
                   .title = "ExpertScope tests",
                   .layout_path = "",
                   .scale = 1,
                   .exact_size = true});
    ImGuiTestEngineIO& io = ImGuiTestEngine_GetIO(engine);
    io.ConfigRunSpeed = ImGuiTestRunSpeed_Fast;
    io.ConfigVerboseLevelOnError = ImGuiTestVerboseLevel_Info;
    io.ConfigLogToTTY = true;
    io.ConfigSavedSettings = false;
    io.ConfigRestoreFocusAfterTests = false;
    ImGuiTestEngine_Start(engine, ImGui::GetCurrentContext());
    for (const auto make : {+[](const std::string&) { return make_sample_harness(); },
                            +[](const std::string& where) { return make_engine_harness(where); }}) {
      const auto harness = make(folder.string());
      const Score score = run_category(window, engine, *harness, filter);
      total.run += score.run;
      total.passed += score.passed;
    }
    ImGuiTestEngine_Stop(engine);
#if defined(__SANITIZE_ADDRESS__)
    // With the window the display libraries are unloaded, and leaks.supp could not know their allocations any more.
    __lsan_do_leak_check();
#endif
  }
  ImGuiTestEngine_DestroyContext(engine);  // after Dear ImGui's own context
  std::filesystem::remove_all(folder);
  std::printf("%d of %d window tests passed\n", total.passed, total.run);
  return total.run > 0 && total.passed == total.run ? 0 : 1;
}

}  // namespace
}  // namespace expertscope

int main(int argc, char** argv) {
  try {
    if (argc == 3 && std::string(argv[1]) == "--gallery") {
      expertscope::write_gallery(argv[2]);
      return 0;
    }
    if (argc == 3 && std::string(argv[1]) == "--frame-times")
      return expertscope::report_frame_times(std::atol(argv[2]));
    return expertscope::run_gui_tests(argc == 2 ? argv[1] : "");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
