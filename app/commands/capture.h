#pragma once

#include "app/commands/command.h"

namespace expertscope {

void add_capture(CLI::App& program, Action& action);

}  // namespace expertscope
