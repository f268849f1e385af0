// Turns what an engine tells into a trace on the same thread, without rings or files: for replay.
#pragma once

#include "engine/observer.h"
#include "profiler/batch.h"
#include "profiler/trace.h"

namespace expertscope {

class TraceObserver : public Observer {
 public:
  void on_start(const RunInfo& info) override { batch_.start = info; }
  void on_event(const Event&) override;
  void on_route(const RouteRecord&) override {}  // the caller has them
  void on_epoch(const EpochRecord& record) override { batch_.epochs.push_back(record); }
  void on_prompt(const PromptRecord& record) override { batch_.prompts.push_back(record); }
  void on_mark(const MarkRecord& record) override { batch_.marks.push_back(record); }
  void on_health(const HealthNote& note) override { batch_.health.push_back(note); }
  void on_piece(std::int32_t id, std::string_view bytes) override { batch_.pieces[id] = bytes; }
  void on_logits(const LogitsRecord& record) override { batch_.logits.push_back(record); }
  void on_quality(const QualityRecord& record) override { batch_.quality.push_back(record); }

  // The trace of everything so far, as a run that ended in order.
  Trace finish();

 private:
  Batch batch_;
};

}  // namespace expertscope
