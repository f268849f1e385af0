// A window with OpenGL and Dear ImGui in it: opening, frames, waiting for input without spending time, screenshots.
// Everything here belongs to the thread that made the window, which must be the program's first.
#pragma once

#include <string>

struct GLFWwindow;

namespace expertscope {

struct WindowOptions {
  int width = 1600, height = 1000;
  std::string title = "ExpertScope";
  std::string layout_path;  // where Dear ImGui keeps the window layout; "" = nowhere
  double scale = 0;         // of fonts and sizes; 0 = the monitor's
  bool exact_size = false;  // for screenshots: exactly this size, no frame, and the mouse is nowhere
};

class Window {
 public:
  // RunError when no window can be opened (no display, no OpenGL 3).
  explicit Window(const WindowOptions&);
  ~Window();
  Window(const Window&) = delete;
  Window& operator=(const Window&) = delete;

  float scale() const { return scale_; }
  bool should_close() const;
  double now_s() const;  // seconds since the window was opened

  // Waits at most so long. True when something happened that may change what is drawn: input, a resize, an exposed
  // window.
  bool wait(double seconds);
  // Ends another thread's wait() soon. Any thread.
  static void wake();

  void begin_frame();
  // Draws what was built since begin_frame and shows it. With a path, the picture is also saved there as PNG (RunError
  // when that fails).
  void end_frame(const std::string& png_path = "");

  // "OpenGL 4.5, llvmpipe": for the health page.
  std::string description() const;

 private:
  void save_png(const std::string& path, int width, int height) const;

  GLFWwindow* window_ = nullptr;
  float scale_ = 1;
  bool ignore_mouse_ = false;
};

}  // namespace expertscope
