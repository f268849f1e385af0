#pragma once

#include "app/commands/command.h"

namespace expertscope {

// The commands whose names are fixed but which this version does not have yet: each says so and ends with exit code 2.
void add_later(CLI::App& program, Action& action);

}  // namespace expertscope
