// The window over a session: frames when something changed, pictures when they were asked for.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include <CLI/CLI.hpp>

#include "app/window.h"
#include "app/workbench_session.h"

namespace expertscope {

struct WindowRequest {
  std::string size = "1600x1000";
  std::string screenshot;  // path of a PNG; "": none
  int frames = 30;         // to draw before it, once what it shows is there
  std::optional<std::uint32_t> at_token;
};

void add_window_options(CLI::App&, WindowRequest&, bool live);
// InputError when options do not fit together or the picture cannot be written.
void check_window_request(const WindowRequest&);

// RunError when no window can be opened.
std::unique_ptr<Window> open_window(const WindowRequest&);
// Shows the session until the window is closed, a signal asks for the end, or the picture is taken.
void run_window(const WindowRequest&, Window&, WorkbenchSession&, int default_tokens);

}  // namespace expertscope
