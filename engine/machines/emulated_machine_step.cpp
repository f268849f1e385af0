// The operations of a step, and what becomes of them as modelled time passes.
#include <algorithm>
#include <cstring>

#include "engine/assert.h"
#include "engine/machines/emulated_machine_impl.h"

namespace expertscope {

// --- a step

void EmulatedMachine::begin_step(const StepInput& input) {
  catch_up();
  simulation_.forget_done();
  step_ = input.step;
  tokens_.assign(input.tokens.begin(), input.tokens.end());
  queue_gpu(WorkKind::embed, -1, costs_.embed(tokens_.size()), {});
}

void EmulatedMachine::attention(int layer) {
  queue_gpu(WorkKind::attention, layer, costs_.attention(tokens_), {});
}

void EmulatedMachine::router(const RouterRequest& request) {
  request_ = request;
  given_.assign(request.given.begin(), request.given.end());
  executed_.assign(request.executed.begin(), request.executed.end());
  const int gates = (executed_.empty() ? 1 : 0) + request.lookahead_used;
  router_ = queue_gpu(WorkKind::router, request.layer, costs_.router(gates, tokens_.size()), {});
  activations_out_ = 0;
  cpu_runs_ = false;
  std::ranges::fill(remote_, Remote{});
  padded_rows_ = 0;
  // Experts that are there are queued behind the router, before it is known which they are.
  if (request.start_resident) spend_on_host(WorkKind::routing_sync, costs_.issue_ns(WorkKind::expert));
}

LayerRoutes EmulatedMachine::wait_routes() {
  wait_and_sync(router_);
  return {.asked_ns = asked_ns_, .tokens = routes_, .truth = truth_, .demands = demands_};
}

LayerRoutes EmulatedMachine::revise(std::span<const RouteRecord> executed, int padded_rows) {
  ES_ASSERT(!request_.start_resident, "revises what the device may have started");
  executed_.assign(executed.begin(), executed.end());
  padded_rows_ = padded_rows;
  demands_ = executed_groups_.group(request_.layer, shape_.experts, executed_, padded_rows);
  return {.asked_ns = asked_ns_, .tokens = routes_, .truth = truth_, .demands = demands_};
}

void EmulatedMachine::combine(int layer, std::span<const Ticket> experts) {
  // It runs after the host has asked for the next layer's router: what is executed then is another layer's.
  combined_.assign(executed_.begin(), executed_.end());
  std::size_t rows = 0;
  for (const Demand& d : demands_) rows += d.computed_rows();
  const auto padded = static_cast<std::size_t>(padded_rows_);
  work_bytes_ = std::max(work_bytes_, costs_.work_bytes(rows, tokens_.size(), padded));
  std::vector<Ticket> after(experts.begin(), experts.end());
  for (std::size_t d = 1; d < remote_.size(); ++d) {
    // The experts of a GPU run one after the other.
    if (remote_[d].rows > 0)
      after.push_back(send_between(static_cast<std::uint8_t>(d), 0, remote_[d].rows, remote_[d].last_expert));
  }
  combine_ = queue_gpu(WorkKind::combine, layer, costs_.combine(tokens_.size(), padded), after);
}

void EmulatedMachine::head() {
  const auto wanted = std::count_if(tokens_.begin(), tokens_.end(), [](const TokenInput& t) { return t.wants_logits; });
  if (wanted == 0) {
    head_ = combine_;
    return;
  }
  head_ = queue_gpu(WorkKind::head, -1, costs_.head(static_cast<std::size_t>(wanted)), {});
}

void EmulatedMachine::wait_and_sync(Ticket t) {
  wait(t);
  spend_on_host(WorkKind::routing_sync, costs_.sync_ns());
}

void EmulatedMachine::spend_on_host(WorkKind kind, TimeNs ns) {
  const TimeNs start = host_now_;
  host_now_ += ns;
  if (observer_ == nullptr || ns == 0) return;
  observer_->on_event(WorkRecord{.start_ns = start,
                                 .end_ns = host_now_,
                                 .step = step_,
                                 .tokens = static_cast<std::uint16_t>(tokens_.size()),
                                 .kind = kind,
                                 .lane = Lane::host});
}

// --- what the simulation tells

void EmulatedMachine::started(const LaneOp& op, TimeNs free_ns) {
  Payload& p = payloads_[op.payload];
  if (p.is_copy) {
    p.copy.start_ns = op.started_ns;
    // What is being overwritten must not be readable: a reader that does not wait finds NaN scales, not stale weights.
    if (arithmetic_ != nullptr && p.slot != kNone16 && op.work_at_start == op.work_ns) {
      const std::span<std::byte> bytes = slots_[p.slot].bytes.span();
      std::memset(bytes.data(), 0xff, std::min<std::size_t>(bytes.size(), 256));
    }
    return;
  }
  p.work.start_ns = op.started_ns;
  if (observer_ == nullptr || op.lane != Lane::gpu || op.last_dependency == 0 || op.started_ns <= free_ns) return;
  const LaneOp& waited = simulation_.find(op.last_dependency);
  const Payload& cause = payloads_[waited.payload];
  WorkRecord wait = p.work;
  wait.start_ns = free_ns;
  wait.end_ns = op.started_ns;
  wait.bytes = wait.flops = 0;
  wait.kind = cause.is_copy ? waiting_for(cause.copy.reason) : WorkKind::wait_activation;
  observer_->on_event(wait);
}

void EmulatedMachine::ran(const LaneOp& op, TimeNs end_ns, std::int64_t bytes, bool last) {
  Payload& p = payloads_[op.payload];
  if (p.is_copy) {
    p.copy.end_ns = end_ns;
    p.copy.bytes = bytes;
    p.copy.last = last;
    if (observer_ != nullptr) observer_->on_event(p.copy);
    return;
  }
  p.work.end_ns = end_ns;
  if (observer_ != nullptr) observer_->on_event(p.work);
}

void EmulatedMachine::completed(const LaneOp& op) {
  const Payload p = payloads_[op.payload];
  p.is_copy ? finish_copy(p) : finish_work(p);
  // A payload may be asked for as the cause of a wait by what starts next, so its place is reused only afterwards.
  free_payloads_.push_back(op.payload);
}

void EmulatedMachine::finish_copy(const Payload& p) {
  if (p.slot == kNone16) return;
  const ExpertId id{.layer = p.copy.layer, .expert = p.copy.expert};
  if (arithmetic_ != nullptr) {
    const std::span<const std::byte> blob = host_blob(id, p.copy.precision);
    std::memcpy(slots_[p.slot].bytes.data(), blob.data(), blob.size());
  }
  if (p.publish) entry(id) = p.slot;
}

void EmulatedMachine::finish_work(const Payload& p) {
  if (p.work.kind == WorkKind::router) {
    finish_router(p.work.end_ns);
    return;
  }
  if (arithmetic_ == nullptr) return;
  switch (p.work.kind) {
    case WorkKind::embed:
      arithmetic_->begin_step(tokens_);
      break;
    case WorkKind::attention:
      arithmetic_->attention(p.work.layer);
      break;
    case WorkKind::expert: {
      if (p.demand == nullptr || p.demand->rows.empty()) break;
      const ExpertId id = p.demand->expert;
      const ExpertBlobLayout& layout = layout_of(id.layer, p.work.precision);
      const std::span<const std::byte> blob =
          p.work.lane == Lane::cpu ? host_blob(id, p.work.precision)
                                   : slots_[p.slot].bytes.span().first(static_cast<std::size_t>(layout.bytes));
      arithmetic_->expert(id.layer, layout, blob, p.demand->rows);
      break;
    }
    case WorkKind::combine:
      for (std::size_t t = 0; t < tokens_.size(); ++t) {
        const RouteRecord& r = combined_.empty() ? routes_[t] : combined_[t];
        arithmetic_->combine(p.work.layer, static_cast<int>(t), {r.weight.data(), r.picks});
      }
      break;
    case WorkKind::head:
      arithmetic_->head();
      break;
    default:
      break;
  }
}

RouteRecord EmulatedMachine::make_route(int token) {
  const RouterRule& rule = model_->description().router;
  RouteRecord record = route_record(rule, step_, request_.layer, token, arithmetic_->router_logits(token));
  for (int d = 1; d <= request_.lookahead_recorded; ++d) {
    arithmetic_->lookahead_logits(request_.layer + d, token, gate_logits_);
    add_gate(rule, gate_logits_, record);
  }
  return record;
}

void EmulatedMachine::finish_router(TimeNs at) {
  asked_ns_ = at;
  if (given_.empty()) {
    ES_ASSERT(arithmetic_ != nullptr, "routes must be given when the arithmetic is switched off");
    arithmetic_->router(request_.layer);
    routes_.clear();
    for (std::size_t t = 0; t < tokens_.size(); ++t) routes_.push_back(make_route(static_cast<int>(t)));
  } else {
    routes_.swap(given_);
  }
  truth_ = demands_ = groups_.group(request_.layer, shape_.experts, routes_);
  if (!executed_.empty()) demands_ = executed_groups_.group(request_.layer, shape_.experts, executed_);
  if (!request_.start_resident) return;
  bool joins_the_last = false;
  for (Demand& d : demands_) {
    const SlotId slot = entry(d.expert);
    if (slot == kNone16) continue;
    d.started = queue_gpu_expert(d, slot, 0, slots_[slot].precision, joins_the_last);
    joins_the_last = costs_.starts_together();
  }
}

}  // namespace expertscope
