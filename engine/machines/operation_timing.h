// What operations really take with this program's own kernels, from runs of models on a machine: per kind a fixed part
// with the gap before it, and a rate; and what the host takes around them. A profile that says so predicts the machine
// that it was measured on far better than its bandwidths alone.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/machines/profile.h"
#include "engine/observer.h"

namespace expertscope {

// Listens to runs, one after the other: of models of different size, each once with all experts resident and once with
// demands that are fetched. Decode steps of one token count.
class OperationTimer : public Observer {
 public:
  using Clock = std::function<TimeNs()>;
  explicit OperationTimer(Clock host_clock) : host_clock_(std::move(host_clock)) {}

  void on_start(const RunInfo&) override;  // again at a run's end: of the same model, no new run
  void on_event(const Event&) override;
  void on_route(const RouteRecord&) override {}
  void on_epoch(const EpochRecord&) override {}
  void on_prompt(const PromptRecord&) override {}
  void on_mark(const MarkRecord&) override {}
  void on_health(const HealthNote&) override {}
  void on_piece(std::int32_t, std::string_view) override {}
  void on_logits(const LogitsRecord&) override {}
  void on_quality(const QualityRecord&) override {}
  void on_launch_begin(const LaunchTag&) override;
  void on_launch_end() override;

  // Puts what the runs showed into the profile, whose bandwidths and copy costs are known, and adds the numbers behind
  // it to what was measured. Kinds that were not seen stay as they are.
  void apply_to(MachineProfile&) const;

 private:
  struct Sample {
    double bytes = 0, seconds = 0;
  };
  struct Run {
    std::string model;
    double vocab = 0;
    std::array<std::vector<Sample>, kWorkKinds> gpu = {};
    std::vector<double> sync_s = {}, policy_s = {}, sampling_s = {};
    std::array<std::vector<double>, kWorkKinds> issue_s = {};
    std::vector<Sample> lone_demands = {};  // from the call until the expert runs, one alone in its layer
  };

  static Sample middle(const std::vector<Sample>&);
  void end_step(const StepRecord&);
  void add_host_work();
  void add_gpu_work(TimeNs step_start_ns);
  void add_demands();
  void apply_gpu(MachineProfile&) const;

  Clock host_clock_;
  WorkKind issued_ = WorkKind::embed;
  bool is_copy_ = false;
  TimeNs issue_began_ns_ = 0;
  std::vector<Run> runs_;
  std::vector<WorkRecord> works_;  // of the step in work
  std::vector<CopyRecord> copies_;
};

}  // namespace expertscope
