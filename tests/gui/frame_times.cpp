#include "tests/gui/frame_times.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <vector>

#include "app/window.h"
#include "tests/views/sample_trace.h"
#include "views/workbench.h"

namespace expertscope {
namespace {

constexpr double kAllowed_ms = 4;
constexpr int kFrames = 40;

double now_ms() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

int report_frame_times(long records) {
  constexpr long kRecordsOfAStep = 125;
  const Trace trace = sample::trace({.tokens_each = static_cast<int>(records / kRecordsOfAStep / 2)});
  std::printf(
      "%zu records in %zu steps\n",
      trace.works.size() + trace.copies.size() + trace.demands.size() + trace.residency.size() + trace.tokens.size(),
      trace.steps.size());
  Window window(
      {.width = 1920, .height = 1080, .title = "ExpertScope", .layout_path = "", .scale = 1, .exact_size = true});
  Workbench workbench(sample::hooks(), window.scale());
  const LiveStatus status = sample::live_status(trace);
  std::vector<Command> commands;
  const auto frame = [&](double at_s) {
    window.wait(0);
    window.begin_frame();
    const double before = now_ms();
    workbench.draw(trace, status, at_s, commands);
    const double taken = now_ms() - before;
    window.end_frame();
    return taken;
  };
  std::printf("first frame %.1f ms\n", frame(0));
  double worst = 0, t = 1;
  const auto measure = [&](const char* name, auto&& move) {
    std::vector<double> times;
    for (int i = 0; i < kFrames; ++i) {
      move(i);
      times.push_back(frame(t += 0.03));
    }
    std::sort(times.begin(), times.end());
    std::printf("%-28s median %.2f ms, longest %.2f ms\n", name, times[times.size() / 2], times.back());
    worst = std::max(worst, times[times.size() / 2]);
  };
  Selection& selection = workbench.selection();
  const TimeNs end = trace.end_ns();
  measure("nothing moves", [](int) {});
  const auto pan = [&](TimeNs width) {
    return [&, width](int i) {
      const TimeNs begin = end / 3 + width / 50 * i;
      selection.timeline = {begin, begin + width};
      selection.follow = false;
    };
  };
  measure("panning the whole session", pan(end / 2));
  measure("panning a hundredth", pan(end / 100));
  measure("panning a thousandth", pan(end / 1000));
  measure("panning a few tokens", pan(300'000'000));
  measure("panning a layer", pan(10'000'000));
  measure("panning the strips", [&](int i) {
    selection.strips = {end / 10 + i * 1000, end / 2 + i * 1000};
    selection.fit_strips = false;
  });
  measure("moving a selected range", [&](int i) { selection.range = TimeRange{end / 3, end / 3 + end / 10 + i}; });
  return worst <= kAllowed_ms ? 0 : 1;
}

}  // namespace expertscope
