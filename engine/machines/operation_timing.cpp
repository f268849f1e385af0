#include "engine/machines/operation_timing.h"

#include <algorithm>
#include <map>
#include <optional>

#include <fmt/format.h>

#include "engine/run_info.h"

namespace expertscope {
namespace {

constexpr double kSeconds = 1e-9;
// A longer gap before an operation is not its own: the host was late, or something was waited for.
constexpr TimeNs kMostGapNs = 5'000;
constexpr double kEnoughApart = 1.5;  // in bytes, for a slope between two models

constexpr WorkKind kOnGpu[] = {WorkKind::embed,  WorkKind::attention, WorkKind::router,
                               WorkKind::expert, WorkKind::combine,   WorkKind::head};

bool is_wait(WorkKind kind) {
  return kind >= WorkKind::wait_demand;
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

// A line through two points, neither of whose parts is below its bound.
struct Line {
  double fixed = 0, slope = 0;
};
Line through(double x1, double y1, double x2, double y2, double least_slope) {
  if (x2 < x1) {
    std::swap(x1, x2);
    std::swap(y1, y2);
  }
  double slope = least_slope;
  if (x2 > kEnoughApart * x1) slope = std::max(slope, (y2 - y1) / (x2 - x1));
  return {.fixed = std::max(0.0, y1 - slope * x1), .slope = slope};
}

}  // namespace

void OperationTimer::on_start(const RunInfo& info) {
  if (runs_.empty() || runs_.back().model != info.model_name)
    runs_.push_back({.model = info.model_name, .vocab = static_cast<double>(info.vocab)});
}

void OperationTimer::on_event(const Event& event) {
  switch (event.kind) {
    case EventKind::work:
      works_.push_back(event.work);
      break;
    case EventKind::copy:
      copies_.push_back(event.copy);
      break;
    case EventKind::step:
      end_step(event.step);
      break;
    default:
      break;
  }
}

void OperationTimer::on_launch_begin(const LaunchTag& tag) {
  issued_ = tag.kind;
  is_copy_ = tag.is_copy;
  issue_began_ns_ = host_clock_();
}

void OperationTimer::on_launch_end() {
  if (runs_.empty() || is_copy_) return;
  runs_.back().issue_s[static_cast<std::size_t>(issued_)].push_back(
      kSeconds * static_cast<double>(host_clock_() - issue_began_ns_));
}

void OperationTimer::end_step(const StepRecord& step) {
  std::ranges::stable_sort(works_, {}, &WorkRecord::start_ns);
  if (step.tokens == 1 && step.phase == Phase::decode && !runs_.empty()) {
    add_host_work();
    const bool copied = std::ranges::any_of(copies_, [](const CopyRecord& c) { return is_expert_copy(c.reason); });
    copied ? add_demands() : add_gpu_work(step.start_ns);
  }
  works_.clear();
  copies_.clear();
}

void OperationTimer::add_host_work() {
  Run& run = runs_.back();
  TimeNs routed_ns = 0;
  for (const WorkRecord& w : works_) {
    const double seconds = kSeconds * static_cast<double>(w.end_ns - w.start_ns);
    if (w.kind == WorkKind::router) routed_ns = w.end_ns;
    if (w.kind == WorkKind::sampling) run.sampling_s.push_back(seconds);
    if (w.kind != WorkKind::policy) continue;
    run.policy_s.push_back(seconds);
    if (routed_ns > 0 && w.start_ns >= routed_ns)
      run.sync_s.push_back(kSeconds * static_cast<double>(w.start_ns - routed_ns));
    routed_ns = 0;
  }
}

// Operations of a step in which all experts were there. Experts of a layer are one operation.
void OperationTimer::add_gpu_work(TimeNs step_start_ns) {
  Run& run = runs_.back();
  TimeNs free_ns = step_start_ns;
  for (std::size_t i = 0; i < works_.size(); ++i) {
    const WorkRecord& w = works_[i];
    if (w.lane != Lane::gpu || is_wait(w.kind)) continue;
    double bytes = static_cast<double>(w.bytes);
    TimeNs end_ns = w.end_ns;
    for (; w.kind == WorkKind::expert && i + 1 < works_.size(); ++i) {
      const WorkRecord& next = works_[i + 1];
      if (next.lane == Lane::gpu && (next.kind != WorkKind::expert || next.layer != w.layer)) break;
      if (next.lane != Lane::gpu) continue;
      bytes += static_cast<double>(next.bytes);
      end_ns = next.end_ns;
    }
    const bool own_gap = w.start_ns - free_ns <= kMostGapNs || w.kind == WorkKind::embed;
    const TimeNs begin_ns = own_gap ? free_ns : w.start_ns;
    run.gpu[static_cast<std::size_t>(w.kind)].push_back({bytes, kSeconds * static_cast<double>(end_ns - begin_ns)});
    free_ns = end_ns;
  }
}

// Copies that were alone in their layer, from the call until what waited for them ran.
void OperationTimer::add_demands() {
  std::map<int, std::vector<const CopyRecord*>> of_layer;
  for (const CopyRecord& c : copies_)
    if (c.reason == CopyReason::demand) of_layer[c.layer].push_back(&c);
  for (const auto& [layer, copies] : of_layer) {
    if (copies.size() != 1 || !copies[0]->last) continue;
    const CopyRecord& copy = *copies[0];
    const auto waited = std::ranges::find_if(works_, [&](const WorkRecord& w) {
      return w.kind == WorkKind::wait_demand && w.layer == layer && w.end_ns >= copy.end_ns;
    });
    if (waited == works_.end()) continue;
    runs_.back().lone_demands.push_back(
        {static_cast<double>(copy.bytes), kSeconds * static_cast<double>(waited->end_ns - copy.issued_ns)});
  }
}

OperationTimer::Sample OperationTimer::middle(const std::vector<Sample>& samples) {
  std::vector<double> bytes, seconds;
  for (const Sample& s : samples) {
    bytes.push_back(s.bytes);
    seconds.push_back(s.seconds);
  }
  return {median(std::move(bytes)), median(std::move(seconds))};
}

void OperationTimer::apply_to(MachineProfile& profile) const {
  apply_gpu(profile);
  std::vector<double> sync, policy, start;
  std::vector<Sample> sampling;  // by vocabulary
  for (const Run& run : runs_) {
    sync.insert(sync.end(), run.sync_s.begin(), run.sync_s.end());
    policy.insert(policy.end(), run.policy_s.begin(), run.policy_s.end());
    if (!run.sampling_s.empty()) sampling.push_back({run.vocab, median(run.sampling_s)});
    for (const Sample& s : run.lone_demands)
      start.push_back(s.seconds - profile.link.latency_s - s.bytes / profile.link.h2d_bytes_per_s);
  }
  const auto add = [&](const char* name, std::vector<double> values, double& target) {
    if (values.empty()) return;
    std::ranges::sort(values);
    target = std::max(0.0, values[values.size() / 2]);
    profile.measured.push_back({name, "s", target, std::max(0.0, values.front()), std::max(0.0, values.back())});
  };
  add("from the router's end until the host plans", sync, profile.gpus[0].sync_s);
  add("deciding a layer", policy, profile.host.policy_s);
  add("a lone demand, beyond its copy", start, profile.link.start_s);
  if (sampling.empty()) return;
  const auto [least, most] = std::ranges::minmax(sampling, {}, &Sample::bytes);
  const Line line = through(least.bytes, least.seconds, most.bytes, most.seconds, 0);
  profile.host.sampling_s = line.fixed;
  profile.host.sampling_logit_s = line.slope;
}

void OperationTimer::apply_gpu(MachineProfile& profile) const {
  GpuProfile& gpu = profile.gpus[0];
  for (const WorkKind kind : kOnGpu) {
    std::vector<Sample> points;  // one a run
    for (const Run& run : runs_) {
      const std::vector<Sample>& samples = run.gpu[static_cast<std::size_t>(kind)];
      if (samples.empty()) continue;
      points.push_back(middle(samples));
      const auto [low, high] = std::ranges::minmax(samples, {}, &Sample::seconds);
      profile.measured.push_back({fmt::format("{} of {}, {:.0f} bytes", name(kind), run.model, points.back().bytes),
                                  "s", points.back().seconds, low.seconds, high.seconds});
    }
    if (points.empty()) continue;
    std::vector<double> issue;
    for (const Run& run : runs_) {
      const std::vector<double>& more = run.issue_s[static_cast<std::size_t>(kind)];
      issue.insert(issue.end(), more.begin(), more.end());
    }
    const auto [least, most] = std::ranges::minmax(points, {}, &Sample::bytes);
    const Line line = through(least.bytes, least.seconds, most.bytes, most.seconds, 1 / gpu.memory_bytes_per_s);
    std::erase_if(gpu.operations, [&](const OperationRate& rate) { return rate.kind == kind; });
    gpu.operations.push_back(
        {.kind = kind, .fixed_s = line.fixed, .bytes_per_s = 1 / line.slope, .issue_s = median(std::move(issue))});
  }
}

}  // namespace expertscope
