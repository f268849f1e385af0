#include "app/trace_observer.h"

#include <utility>

namespace expertscope {

void TraceObserver::on_event(const Event& event) {
  switch (event.kind) {
    case EventKind::work:
      batch_.works.push_back(event.work);
      return;
    case EventKind::copy:
      batch_.copies.push_back(event.copy);
      return;
    case EventKind::demand:
      batch_.demands.push_back(event.demand);
      return;
    case EventKind::residency:
      batch_.residency.push_back(event.residency);
      return;
    case EventKind::step:
      batch_.steps.push_back(event.step);
      return;
    case EventKind::token:
      batch_.tokens.push_back(event.token);
      return;
  }
}

Trace TraceObserver::finish() {
  batch_.ended = true;
  Trace trace;
  trace.append(batch_);
  batch_ = {};
  return trace;
}

}  // namespace expertscope
