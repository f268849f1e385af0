#pragma once

#include "app/commands/command.h"

namespace expertscope {

void add_machines(CLI::App& program, Action& action);

}  // namespace expertscope
