// What the commands share: how they are declared, and how they speak.
#pragma once

#include <functional>
#include <string>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

namespace expertscope {

// What the command line decided to do; returns the exit code. InputError ends the program with 2, RunError with 1.
using Action = std::function<int()>;

inline constexpr int kExitDone = 0, kExitFailed = 1, kExitBadInput = 2, kExitNotHeld = 3;

// Writes to standard output; RunError when it cannot be written (a full disk behind a redirection).
void print(const std::string& text);
void print_json(const nlohmann::ordered_json&);
// A line on standard error: "expertscope: capture: text".
void say(const std::string& command, const std::string& text);

}  // namespace expertscope
