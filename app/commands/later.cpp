#include "app/commands/later.h"

#include "engine/error.h"

namespace expertscope {

void add_later(CLI::App& program, Action& action) {
  struct Later {
    const char *name, *help, *instead;
  };
  static constexpr Later kLater[] = {
      {"compare", "Differences of two sessions with intervals (not in this version)",
       "use `expertscope report FILE --json` on each"},
      {"export", "Session to Perfetto or CSV (not in this version)",
       "a session is an SQLite file: any SQLite tool reads its views"},
  };
  for (const Later& later : kLater) {
    CLI::App* command = program.add_subcommand(later.name, later.help);
    command->allow_extras();
    command->callback([&action, later] {
      action = [later]() -> int {
        throw InputError(std::string("this version does not have it yet; ") + later.instead);
      };
    });
  }
}

}  // namespace expertscope
