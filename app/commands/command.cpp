#include "app/commands/command.h"

#include <cstdio>

#include "engine/error.h"

namespace expertscope {

void print(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    throw RunError("standard output cannot be written");
}

void print_json(const nlohmann::ordered_json& json) {
  print(json.dump(2) + "\n");
}

void say(const std::string& command, const std::string& text) {
  std::fprintf(stderr, "expertscope: %s%s%s\n", command.c_str(), command.empty() ? "" : ": ", text.c_str());
}

}  // namespace expertscope
