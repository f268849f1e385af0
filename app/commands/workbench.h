#pragma once

#include "app/commands/command.h"

namespace expertscope {

void add_workbench(CLI::App& program, Action& action);

}  // namespace expertscope
