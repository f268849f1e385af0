#pragma once

#include "app/commands/command.h"

namespace expertscope {

void add_policies(CLI::App& program, Action& action);

}  // namespace expertscope
