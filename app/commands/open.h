#pragma once

#include "app/commands/command.h"

namespace expertscope {

void add_open(CLI::App& program, Action& action);

}  // namespace expertscope
