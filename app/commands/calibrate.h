#pragma once

#include "app/commands/command.h"

namespace expertscope {

void add_calibrate(CLI::App& program, Action&);

}  // namespace expertscope
