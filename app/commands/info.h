#pragma once

#include "app/commands/command.h"

namespace expertscope {

void add_info(CLI::App& program, Action& action);

}  // namespace expertscope
