// An observer that keeps everything, for tests that ask what happened.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "engine/observer.h"
#include "engine/run/replay.h"
#include "engine/run_info.h"

namespace expertscope {

class RecordedEvents : public Observer {
 public:
  RunInfo info;
  std::vector<WorkRecord> works;
  std::vector<CopyRecord> copies;
  std::vector<DemandRecord> demands;
  std::vector<ResidencyRecord> residency;
  std::vector<StepRecord> steps;
  std::vector<TokenRecord> tokens;
  std::vector<RouteRecord> routes;
  std::vector<EpochRecord> epochs;
  std::vector<PromptRecord> prompts;
  std::vector<LogitsRecord> logits;
  std::vector<QualityRecord> quality;
  std::vector<HealthNote> health;

  void on_start(const RunInfo& i) override { info = i; }
  void on_event(const Event& e) override {
    switch (e.kind) {
      case EventKind::work:
        works.push_back(e.work);
        break;
      case EventKind::copy:
        copies.push_back(e.copy);
        break;
      case EventKind::demand:
        demands.push_back(e.demand);
        break;
      case EventKind::residency:
        residency.push_back(e.residency);
        break;
      case EventKind::step:
        steps.push_back(e.step);
        break;
      case EventKind::token:
        tokens.push_back(e.token);
        break;
    }
  }
  void on_route(const RouteRecord& r) override { routes.push_back(r); }
  void on_epoch(const EpochRecord& r) override { epochs.push_back(r); }
  void on_prompt(const PromptRecord& r) override { prompts.push_back(r); }
  void on_mark(const MarkRecord&) override {}
  void on_health(const HealthNote& n) override { health.push_back(n); }
  void on_piece(std::int32_t, std::string_view) override {}
  void on_logits(const LogitsRecord& r) override { logits.push_back(r); }
  void on_quality(const QualityRecord& r) override { quality.push_back(r); }

  RecordedRun recorded() const {
    return {.info = info, .steps = steps, .prompts = prompts, .epochs = epochs, .routes = routes, .tokens = tokens};
  }

  // --- questions
  std::int64_t count(DemandState state) const {
    std::int64_t n = 0;
    for (const DemandRecord& d : demands) n += d.state == state;
    return n;
  }
  std::int64_t count(Outcome outcome) const {
    std::int64_t n = 0;
    for (const DemandRecord& d : demands) n += d.outcome == outcome;
    return n;
  }
  std::int64_t expert_copies() const {
    std::int64_t n = 0;
    for (const CopyRecord& c : copies) n += is_expert_copy(c.reason) && c.last;
    return n;
  }
  double decode_seconds() const {
    double s = 0;
    for (const StepRecord& step : steps) {
      if (step.phase == Phase::decode) s += static_cast<double>(step.end_ns - step.start_ns) / 1e9;
    }
    return s;
  }
  double decode_tokens_per_s() const {
    double n = 0;
    for (const StepRecord& step : steps) n += step.phase == Phase::decode ? step.sampled : 0;
    return n / decode_seconds();
  }
};

// Every time, place and decision of a run, as text that can be compared.
inline std::string events_of(const RecordedEvents& e) {
  std::string out;
  for (const StepRecord& s : e.steps)
    out += "step " + std::to_string(s.step) + " " + std::to_string(s.start_ns) + " " + std::to_string(s.end_ns) + "\n";
  for (const DemandRecord& d : e.demands) {
    out += "demand " + std::to_string(d.step) + " " + std::to_string(d.layer) + " " + std::to_string(d.expert) + " " +
           std::string(name(d.state)) + " " + std::string(name(d.outcome)) + " " + std::to_string(d.asked_ns) + " " +
           std::to_string(d.ready_ns) + " " + std::to_string(d.device) + "\n";
  }
  for (const CopyRecord& c : e.copies) {
    out += "copy " + std::to_string(c.copy) + " " + std::string(name(c.reason)) + " " + std::to_string(c.bytes) + " " +
           std::to_string(c.start_ns) + " " + std::to_string(c.end_ns) + " " + std::to_string(c.device) + "\n";
  }
  for (const WorkRecord& w : e.works) {
    out += "work " + std::string(name(w.kind)) + " " + std::string(name(w.lane)) + " " + std::to_string(w.start_ns) +
           " " + std::to_string(w.end_ns) + " " + std::to_string(w.device) + "\n";
  }
  return out;
}

}  // namespace expertscope
