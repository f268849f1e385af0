#pragma once

#include "app/commands/command.h"

namespace expertscope {

void add_synth(CLI::App& program, Action& action);

}  // namespace expertscope
