#include "app/window.h"

#include <algorithm>
#include <cfloat>
#include <vector>

#include <GLFW/glfw3.h>
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb_image_write.h>
#pragma GCC diagnostic pop

#include "imgui.h"
#include "imgui_impl_glfw.h"
#include "imgui_impl_opengl3.h"
#include "imgui_internal.h"
#include "implot.h"

#include "engine/error.h"

namespace expertscope {
namespace {

std::string last_glfw_error() {
  const char* text = nullptr;
  return glfwGetError(&text) != GLFW_NO_ERROR && text ? text : "no reason given";
}

bool exposed_or_resized = false;

}  // namespace

Window::Window(const WindowOptions& options) : ignore_mouse_(options.exact_size) {
  if (!glfwInit())
    throw RunError("no window can be opened: " + last_glfw_error() +
                   "; on a machine without a display use `expertscope capture`, or xvfb-run");
  glfwWindowHint(GLFW_CONTEXT_VERSION_MAJOR, 3);
  glfwWindowHint(GLFW_CONTEXT_VERSION_MINOR, 3);
  glfwWindowHint(GLFW_OPENGL_PROFILE, GLFW_OPENGL_CORE_PROFILE);
  glfwWindowHint(GLFW_OPENGL_FORWARD_COMPAT, GLFW_TRUE);
  int width = options.width, height = options.height;
  if (GLFWmonitor* monitor = glfwGetPrimaryMonitor(); monitor && !options.exact_size) {
    int x = 0, y = 0, most_width = 0, most_height = 0;
    glfwGetMonitorWorkarea(monitor, &x, &y, &most_width, &most_height);
    if (most_width > 0 && most_height > 0) {
      width = std::min(width, most_width);
      height = std::min(height, most_height);
    }
  }
  if (options.exact_size) glfwWindowHint(GLFW_DECORATED, GLFW_FALSE);
  window_ = glfwCreateWindow(width, height, options.title.c_str(), nullptr, nullptr);
  if (!window_) {
    const std::string why = last_glfw_error();
    glfwTerminate();
    throw RunError("no window with OpenGL 3.3 can be opened: " + why);
  }
  glfwMakeContextCurrent(window_);
  glfwSwapInterval(1);
  glfwSetWindowRefreshCallback(window_, [](GLFWwindow*) { exposed_or_resized = true; });
  glfwSetFramebufferSizeCallback(window_, [](GLFWwindow*, int, int) { exposed_or_resized = true; });
  float scale_x = 1, scale_y = 1;
  glfwGetWindowContentScale(window_, &scale_x, &scale_y);
  scale_ = options.scale > 0 ? static_cast<float>(options.scale) : std::max(1.0f, scale_x);

  IMGUI_CHECKVERSION();
  ImGui::CreateContext();
  ImPlot::CreateContext();
  ImGuiIO& io = ImGui::GetIO();
  io.ConfigFlags |= ImGuiConfigFlags_NavEnableKeyboard | ImGuiConfigFlags_DockingEnable;
  io.ConfigDockingWithShift = true;
  io.ConfigWindowsMoveFromTitleBarOnly = true;
  io.ConfigInputTextCursorBlink = false;  // a caret that blinks would need frames while nothing changes
  io.IniFilename = nullptr;
  if (!options.layout_path.empty()) {
    static std::string layout_path;
    layout_path = options.layout_path;
    io.IniFilename = layout_path.c_str();
  }
  ImGui_ImplGlfw_InitForOpenGL(window_, true);
  ImGui_ImplOpenGL3_Init("#version 330");
}

Window::~Window() {
  ImGui_ImplOpenGL3_Shutdown();
  ImGui_ImplGlfw_Shutdown();
  ImPlot::DestroyContext();
  ImGui::DestroyContext();
  glfwDestroyWindow(window_);
  glfwTerminate();
}

bool Window::should_close() const {
  return glfwWindowShouldClose(window_);
}

double Window::now_s() const {
  return glfwGetTime();
}

bool Window::wait(double seconds) {
  if (seconds > 0)
    glfwWaitEventsTimeout(seconds);
  else
    glfwPollEvents();
  const bool happened = exposed_or_resized || ImGui::GetCurrentContext()->InputEventsQueue.Size > 0;
  exposed_or_resized = false;
  return happened;
}

void Window::wake() {
  glfwPostEmptyEvent();
}

void Window::begin_frame() {
  ImGui_ImplOpenGL3_NewFrame();
  ImGui_ImplGlfw_NewFrame();
  if (ignore_mouse_) ImGui::GetIO().AddMousePosEvent(-FLT_MAX, -FLT_MAX);
  ImGui::NewFrame();
}

void Window::end_frame(const std::string& png_path) {
  ImGui::Render();
  int width = 0, height = 0;
  glfwGetFramebufferSize(window_, &width, &height);
  glViewport(0, 0, width, height);
  const ImVec4 ground = ImGui::GetStyleColorVec4(ImGuiCol_DockingEmptyBg);
  glClearColor(ground.x, ground.y, ground.z, 1);
  glClear(GL_COLOR_BUFFER_BIT);
  ImGui_ImplOpenGL3_RenderDrawData(ImGui::GetDrawData());
  if (!png_path.empty()) save_png(png_path, width, height);
  glfwSwapBuffers(window_);
}

void Window::save_png(const std::string& path, int width, int height) const {
  constexpr int kChannels = 3;
  std::vector<unsigned char> pixels(static_cast<std::size_t>(width) * static_cast<std::size_t>(height) * kChannels);
  glPixelStorei(GL_PACK_ALIGNMENT, 1);
  glReadPixels(0, 0, width, height, GL_RGB, GL_UNSIGNED_BYTE, pixels.data());
  stbi_flip_vertically_on_write(1);
  if (!stbi_write_png(path.c_str(), width, height, kChannels, pixels.data(), width * kChannels))
    throw RunError("cannot write the screenshot to " + path + ": check that its folder exists and has room");
}

std::string Window::description() const {
  const auto text = [](GLenum what) {
    const auto* found = reinterpret_cast<const char*>(glGetString(what));
    return std::string(found ? found : "unknown");
  };
  return "OpenGL " + text(GL_VERSION) + ", " + text(GL_RENDERER);
}

}  // namespace expertscope
