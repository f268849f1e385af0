#include "engine/run/executor.h"

#include <algorithm>
#include <array>

#include "engine/assert.h"

namespace expertscope {
namespace {

using State = ExpertCache::State;

}  // namespace

Executor::Executor(Machine& machine, Observer* observer, const ExecutorShape& shape, const Prior* prior,
                   const Future* future)
    : machine_(machine),
      observer_(observer),
      shape_(shape),
      cache_(shape.layers, shape.experts),
      low_(shape.layers, shape.experts),
      use_(static_cast<std::size_t>(shape.layers * shape.experts)),
      demanded_(static_cast<std::size_t>(shape.experts), 0),
      planned_(static_cast<std::size_t>(shape.experts), 0),
      wanted_in_(use_.size(), 0) {
  context_.layers = shape.layers;
  context_.experts = shape.experts;
  context_.devices = machine.gpus();
  context_.top_k = shape.top_k;
  for (ExpertCache* cache : {&cache_, &low_}) cache->set_homes(cache->homes(), context_.devices);
  victims_.resize(2 * cache_.pool_count());
  context_.prior = prior;
  context_.future = future;
  context_.use = &use_;
  context_.cache = &cache_;
  context_.low_cache = &low_;
  context_.state = &state_;
  context_.machine = &machine;
}

int Executor::sequences_held(const Policy& policy) const {
  return shape_.sequences > 1 ? shape_.sequences * policy.scheduler->batches() : 1;
}

void Executor::sequence_begins(int sequence) {
  sequences_begun_ = sequence + 1;
  if (sequence > 0) return;
  for (ExpertUse& u : use_) {
    u.uses_in_sequence = u.tokens_in_sequence = u.low_tokens_in_sequence = u.last_token = 0;
  }
  context_.tokens = 0;
  policy_->each([&](Component& c) { c.sequence_begins(context_); });
}

void Executor::regroup(std::span<const TokenInput> next, std::span<int> batch) {
  if (policy_->scheduler->batches() == 1) return;
  std::vector<std::vector<float>> forecasts;
  for (const TokenInput& token : next) forecasts.push_back(policy_->predictor->forecast(context_, token));
  policy_->scheduler->regroup(context_, next, forecasts, batch);
}

// Tick 0 means never: the first layer of the first step is tick 1.
std::uint64_t Executor::first_tick(std::uint32_t step) const {
  return std::uint64_t{step} * static_cast<std::uint64_t>(shape_.layers) + 1;
}

// --- a step

void Executor::run_step(const StepInput& input, Phase phase, std::span<const RouteRecord> given) {
  context_.step = input.step;
  context_.phase = phase;
  context_.layer = -1;
  context_.tick = first_tick(input.step) - 1;
  context_.tokens += static_cast<std::uint32_t>(input.tokens.size());
  note_loaded();  // before the machine forgets completed copies
  machine_.begin_step(input);
  policy_->each([&](Component& c) { c.step_begins(context_, input.tokens); });
  if (policy_->predictor->predicts_at_step_start()) {
    begin_plan();
    plan_prefetches({});
    issue_prefetches();
  }
  const std::size_t tokens = input.tokens.size();
  for (int layer = 0; layer < shape_.layers; ++layer) {
    run_layer(layer, given.empty() ? given : given.subspan(static_cast<std::size_t>(layer) * tokens, tokens));
  }
  machine_.head();
  machine_.wait_logits();
  flush_demands();
}

void Executor::run_layer(int layer, std::span<const RouteRecord> given) {
  context_.layer = layer;
  context_.tick = first_tick(context_.step) + static_cast<std::uint64_t>(layer);
  executed_.swap(next_executed_);  // empty unless the layer before decided for this one
  next_executed_.clear();
  early_.swap(next_early_);
  next_early_.clear();
  const bool decided = !executed_.empty();
  // With several GPUs the host sends rows to the others first, so it starts everything.
  device_starts_ = context_.devices == 1 && (decided || policy_->starts_residents(context_.phase));
  machine_.attention(layer);
  const int ahead = shape_.layers - 1 - layer;
  const int used = std::min(policy_->lookahead(), ahead);
  machine_.router({.layer = layer,
                   .lookahead_used = used,
                   .lookahead_recorded = std::min(std::max(used, shape_.recorded_gates), ahead),
                   .start_resident = device_starts_,
                   .executed = executed_,
                   .given = given});
  LayerRoutes routes = machine_.wait_routes();
  flush_demands();
  if (observer_ != nullptr) {
    for (const RouteRecord& r : routes.tokens) observer_->on_route(r);
  }
  machine_.begin_host_work(WorkKind::policy);
  note_loaded();
  if (!decided && !policy_->gate->keeps_router()) {
    executed_.assign(routes.tokens.begin(), routes.tokens.end());
    policy_->gate->decide(context_, routes, executed_);
    routes = machine_.revise(executed_, policy_->gate->padded_rows(routes.tokens.size()));
  }
  plan(routes);
  plan_next_layer(routes);
  machine_.end_host_work();
  carry_out(routes);
}

// Issues the plan: every demand copy before any work, so that the link starts at once, and prefetches last.
void Executor::carry_out(const LayerRoutes& routes) {
  tickets_.clear();
  for (const Swap& s : swaps_) {
    ExpertCache::Entry& entry = cache_.at(s.in);
    entry.ready = copy(cache_, s.in, entry.slot, CopyReason::promotion, true);
  }
  for (const Planned& p : plan_) {
    if (p.path == Path::fetch && !p.slot_in_use) fetch(p);
    if (p.path == Path::slot) machine_.raise_copy(p.cache->at(p.demand->expert).ready);
  }
  start_early_work();
  send_rows();
  for (Planned& p : plan_) {
    p.done = carry_out(p);
    tickets_.push_back(p.done);
  }
  for (const Demand& d : routes.truth) note_demand(routes, d);
  machine_.combine(context_.layer, tickets_);
  issue_prefetches();
}

// To the other GPUs, those that their experts work on.
void Executor::send_rows() {
  std::vector<std::size_t> rows(static_cast<std::size_t>(context_.devices), 0);
  for (const Planned& p : plan_) {
    if (p.path != Path::cpu && p.path != Path::early)
      rows[cache_.device_of(p.demand->expert)] += p.demand->computed_rows();
  }
  for (int d = 1; d < context_.devices; ++d) {
    if (rows[static_cast<std::size_t>(d)] > 0) machine_.send_rows(d, rows[static_cast<std::size_t>(d)]);
  }
}

// What became of something that the router asked for.
void Executor::note_demand(const LayerRoutes& routes, const Demand& d) {
  const ExpertId id = d.expert;
  DemandRecord record{.asked_ns = routes.asked_ns,
                      .step = context_.step,
                      .layer = id.layer,
                      .expert = id.expert,
                      .picks = static_cast<std::uint16_t>(d.rows.size()),
                      .rank = d.rank,
                      .weight = d.weight,
                      .device = cache_.device_of(id)};
  if (planned_[id.expert] == 0) {
    const RouteRecord& executed = executed_[static_cast<std::size_t>(d.rows[0].token)];
    const auto end = executed.expert.begin() + executed.picks;
    const bool replaced = std::find(executed.expert.begin(), end, kNone16) == end;
    const State state = cache_.at(id).state;
    record.state = state == State::resident ? DemandState::hit
                   : state == State::absent ? DemandState::miss
                                            : DemandState::late;
    record.outcome = replaced ? Outcome::substituted : Outcome::skipped;
    pending_.push_back({.record = record, .done = 0});
    return;
  }
  const Planned& p = plan_[planned_[id.expert] - std::size_t{1}];
  static constexpr std::array<Outcome, 6> kOutcomeOf = {Outcome::gpu,      Outcome::gpu, Outcome::fetched,
                                                        Outcome::streamed, Outcome::cpu, Outcome::cpu_early};
  record.state = p.state;
  record.outcome = kOutcomeOf[static_cast<std::size_t>(p.path)];
  record.prefetched = p.prefetched;
  record.precision = p.cache->precision();
  record.revised = is_revised(routes, d);
  pending_.push_back({.record = record, .done = p.done});
}

// Whether some pick of the demand did not run with the weight that the router gave it.
bool Executor::is_revised(const LayerRoutes& routes, const Demand& d) const {
  if (executed_.empty()) return false;
  return std::ranges::any_of(d.rows, [&](const Arithmetic::ExpertRow& row) {
    const auto token = static_cast<std::size_t>(row.token);
    const RouteRecord& ran = executed_[token];
    const auto found = std::find(ran.expert.begin(), ran.expert.begin() + ran.picks, d.expert.expert);
    return found == ran.expert.begin() + ran.picks ||
           ran.weight[static_cast<std::size_t>(found - ran.expert.begin())] !=
               routes.tokens[token].weight[static_cast<std::size_t>(row.rank)];
  });
}

void Executor::start_early_work() {
  for (const Demand* d : next_on_cpu_)
    next_early_.push_back({.expert = d->expert, .done = machine_.expert_on_cpu_early(*d)});
  next_on_cpu_.clear();
}

void Executor::fetch(const Planned& p) {
  p.cache->at(p.demand->expert).ready = copy(*p.cache, p.demand->expert, p.slot, CopyReason::demand, true);
}

Ticket Executor::carry_out(const Planned& p) {
  const Demand& d = *p.demand;
  if (p.path == Path::started) return d.started;
  if (p.path == Path::early) return early_result(d.expert);
  if (p.path == Path::cpu) return machine_.expert_on_cpu(d, p.cache->precision());
  if (p.path == Path::fetch && p.slot_in_use) fetch(p);
  const Ticket filled = p.path == Path::stream ? copy(*p.cache, d.expert, p.slot, CopyReason::demand, false)
                                               : p.cache->at(d.expert).ready;
  const Ticket done = machine_.expert_on_gpu(d, p.slot, filled, p.cache->precision());
  last_readers_.set(p.slot, done);
  return done;
}

void Executor::issue_prefetches() {
  for (const EarlyCopy& w : prefetches_) {
    ExpertCache& cache = w.low ? low_ : cache_;
    ExpertCache::Entry& entry = cache.at(w.expert);
    entry.ready = copy(cache, w.expert, entry.slot, CopyReason::prefetch, true);
  }
}

// Demands are told when their completion is known: at the next point where the host has waited for the device.
void Executor::flush_demands() {
  if (observer_ != nullptr) {
    for (PendingDemand& p : pending_) {
      // What was computed early may have been ready before it was asked for.
      p.record.ready_ns = std::max(p.done != 0 ? machine_.completed_ns(p.done) : 0, p.record.asked_ns);
      observer_->on_event(p.record);
    }
  }
  pending_.clear();
}

}  // namespace expertscope
