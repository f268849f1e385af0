#include "app/window_loop.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

#include "imgui.h"
#include <fmt/format.h>

#include "app/options.h"
#include "app/stop_signal.h"
#include "engine/error.h"
#include "views/workbench.h"

namespace expertscope {
namespace {

constexpr double kLiveFrame_s = 1.0 / 30;  // a frame with nothing but new data in it; input is answered at once
constexpr double kIdle_s = 0.25;
constexpr int kFramesAfterInput = 3;  // Dear ImGui answers some input in the frame after
constexpr int kMaxSide = 16384;

std::pair<int, int> parse_size(const std::string& text) {
  int width = 0, height = 0;
  const char* end = text.data() + text.size();
  const auto [cross, error] = std::from_chars(text.data(), end, width);
  bool good = error == std::errc{} && cross != end && *cross == 'x';
  if (good) {
    const auto [stop, second] = std::from_chars(cross + 1, end, height);
    good = second == std::errc{} && stop == end;
  }
  if (!good || width < 320 || height < 240 || width > kMaxSide || height > kMaxSide)
    throw InputError(
        fmt::format("--window: '{}' is not a size such as 1600x1000 (320x240 to {}x{})", text, kMaxSide, kMaxSide));
  return {width, height};
}

// Where the user's arrangement of the windows is kept: $XDG_CONFIG_HOME/expertscope, else ~/.config/expertscope. ""
// when it cannot be.
std::string layout_path() {
  const char* config = std::getenv("XDG_CONFIG_HOME");
  const char* home = std::getenv("HOME");
  std::filesystem::path folder;
  if (config != nullptr && *config != '\0')
    folder = config;
  else if (home != nullptr && *home != '\0')
    folder = std::filesystem::path(home) / ".config";
  else
    return "";
  std::error_code error;
  std::filesystem::create_directories(folder / "expertscope", error);
  return error ? "" : (folder / "expertscope" / "layout.ini").string();
}

WindowOptions window_options(const WindowRequest& request) {
  WindowOptions options;
  std::tie(options.width, options.height) = parse_size(request.size);
  options.exact_size = !request.screenshot.empty();
  if (request.screenshot.empty()) options.layout_path = layout_path();
  return options;
}

class WindowLoop {
 public:
  WindowLoop(const WindowRequest& request, Window& window, WorkbenchSession& session, int default_tokens)
      : request_(request),
        session_(session),
        window_(window),
        workbench_(session.make_hooks(default_tokens), window.scale()) {
    workbench_.set_window_status(window_.description());
  }

  void run_until_closed() {
    int frames_due = kFramesAfterInput;
    while (!window_.should_close() && stop_signal() == 0) {
      const bool live = session_.live() != nullptr && session_.status().running;
      const bool more = frames_due > 0 || workbench_.wants_another_frame();
      if (window_.wait(more ? 0 : live || session_.opening() ? kLiveFrame_s : kIdle_s)) frames_due = kFramesAfterInput;
      const bool news = session_.pump();
      const bool changed = status_changed();
      if (!news && !changed && !more && frames_due == 0) continue;
      draw();
      frames_due = std::max(0, frames_due - 1);
    }
  }

  // Draws every frame; counts them once what the picture is to show is there.
  void take_picture() {
    ImGui::GetIO().ConfigFlags |= ImGuiConfigFlags_NoMouse;  // no tooltip of wherever the pointer happens to be
    int drawn = 0;
    while (!window_.should_close() && stop_signal() == 0) {
      window_.wait(0);
      session_.pump();
      if (!session_.problem().empty()) throw InputError(session_.problem());
      const bool last = drawn + 1 >= request_.frames && picture_is_there();
      draw(last ? request_.screenshot : "");
      if (last) return;
      if (picture_is_there()) ++drawn;
    }
    throw RunError("the window was closed before the picture was taken");
  }

 private:
  bool picture_is_there() const {
    if (session_.opening()) return false;
    if (!request_.at_token || session_.live() == nullptr) return true;
    const Trace& trace = session_.trace();
    const LiveStatus status = session_.status();
    if (status.ended && !status.error.empty()) throw RunError(status.error);
    const bool all_drawn =
        trace.steps.empty() || trace.steps.back().first_generated + trace.steps.back().sampled >= status.generated;
    const bool there = status.generated >= *request_.at_token || (!status.running && status.generated > 0);
    return trace.started && there && all_drawn;
  }

  // Numbers of the engine that change without a record: paused, an error, a change that took effect.
  bool status_changed() {
    const LiveStatus status = session_.status();
    const bool changed = status.commands_applied != last_status_.commands_applied ||
                         status.error != last_status_.error || status.running != last_status_.running ||
                         status.ended != last_status_.ended || status.session_path != last_status_.session_path ||
                         status.prompts_waiting != last_status_.prompts_waiting;
    last_status_ = status;
    return changed;
  }

  void draw(const std::string& png_path = "") {
    std::vector<Command> commands;
    window_.begin_frame();
    workbench_.draw(session_.trace(), session_.status(), window_.now_s(), commands);
    window_.end_frame(png_path);
    session_.send(commands);
  }

  const WindowRequest& request_;
  WorkbenchSession& session_;
  Window& window_;
  Workbench workbench_;
  LiveStatus last_status_;
};

}  // namespace

void add_window_options(CLI::App& app, WindowRequest& request, bool live) {
  auto* screenshot = app.add_option("--screenshot", request.screenshot,
                                    "Draw --frames frames, save a picture of the window as PNG, exit")
                         ->type_name("PATH");
  app.add_option("--frames", request.frames, "Frames to draw before the picture, 1 to 100,000 [30]")
      ->type_name("N")
      ->check(whole_range(1, 100'000))
      ->needs(screenshot);
  if (live)
    app.add_option("--screenshot-at-token", request.at_token,
                   "Run as fast as it computes to this generated token, 0 or more, and take the picture there")
        ->type_name("N")
        ->check(whole_range(0, 10'000'000))
        ->needs(screenshot);
  app.add_option("--window", request.size, "Size of the window in pixels [1600x1000]")->type_name("WxH");
}

void check_window_request(const WindowRequest& request) {
  parse_size(request.size);
  if (request.screenshot.empty()) return;
  std::error_code ignored;
  const bool existed = std::filesystem::exists(request.screenshot, ignored);
  std::ofstream file(request.screenshot, std::ios::binary | std::ios::app);
  if (!file)
    throw InputError("--screenshot: " + request.screenshot +
                     " cannot be written: " + std::generic_category().message(errno));
  file.close();
  if (!existed) std::filesystem::remove(request.screenshot, ignored);  // what is refused later leaves nothing behind
}

std::unique_ptr<Window> open_window(const WindowRequest& request) {
  return std::make_unique<Window>(window_options(request));
}

void run_window(const WindowRequest& request, Window& window, WorkbenchSession& session, int default_tokens) {
  WindowLoop loop(request, window, session, default_tokens);
  if (request.screenshot.empty())
    loop.run_until_closed();
  else
    loop.take_picture();
}

}  // namespace expertscope
