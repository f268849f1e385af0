// The window tests, in the order in which they must run: the first starts from an empty workbench.
#pragma once

#include "tests/gui/gui_harness.h"
#include "views/workbench.h"

struct ImGuiTestEngine;

namespace expertscope {

// What the tests look at. Filled before a category's tests run, by run_gui_tests.
struct World {
  GuiHarness* harness = nullptr;
  Workbench* workbench = nullptr;
};

void register_workbench_tests(ImGuiTestEngine*, const char* category, World&);

}  // namespace expertscope
