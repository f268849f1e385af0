#pragma once

#include "app/commands/command.h"

namespace expertscope {

void add_learn(CLI::App& program, Action&);

}  // namespace expertscope
