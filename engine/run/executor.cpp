#include "engine/run/executor.h"

#include <algorithm>

#include "engine/assert.h"

namespace expertscope {
namespace {

// Weights that are streamed pass through these; two let one be filled while the other is read.
constexpr int kStagingSlots = 2;

using State = ExpertCache::State;

constexpr Outcome outcome_of(bool fetched_path, bool streamed, bool cpu) {
  if (cpu) return Outcome::cpu;
  if (streamed) return Outcome::streamed;
  return fetched_path ? Outcome::fetched : Outcome::gpu;
}

}  // namespace

Executor::Executor(Machine& machine, Observer* observer, const ExecutorShape& shape, const Prior* prior,
                   const Future* future)
    : machine_(machine),
      observer_(observer),
      shape_(shape),
      cache_(shape.layers, shape.experts),
      use_(static_cast<std::size_t>(shape.layers * shape.experts)),
      demanded_(static_cast<std::size_t>(shape.experts), 0) {
  context_.layers = shape.layers;
  context_.experts = shape.experts;
  context_.top_k = shape.top_k;
  context_.prior = prior;
  context_.future = future;
  context_.use = &use_;
  context_.machine = &machine;
}

// --- configuration

void Executor::configure(const PolicySpec& spec, int slots, bool reset_cache) {
  check_fits(spec, slots, shape_.layers * shape_.experts);
  machine_.ensure_fits(slots, kStagingSlots);
  policy_ = std::make_unique<Policy>(spec);
  if (staging_.empty()) staging_ = machine_.add_slots(0, kStagingSlots, true);
  context_.slots = slots;
  const Pools pools = policy_->capacity->split(context_);
  const bool smaller = slots < cache_.slot_count();
  if (smaller || reset_cache) settle();
  cache_.set_pools(pools);
  if (reset_cache) {
    for (int l = 0; l < shape_.layers; ++l) {
      for (int e = 0; e < shape_.experts; ++e) {
        const ExpertId id{static_cast<std::uint16_t>(l), static_cast<std::uint16_t>(e)};
        if (cache_.at(id).state != State::absent) evict(id, ResidencyChange::dropped);
      }
    }
  }
  shrink_to_pools();
  resize(slots);
  place_initially();
}

// Copies under way end or are cancelled, so that every slot is either free or readable.
void Executor::settle() {
  const std::vector<ExpertId> loading = cache_.loading();
  for (ExpertId id : loading) {
    if (machine_.cancel_copy(cache_.at(id).ready)) {
      cache_.release(id);
    } else {
      machine_.wait(cache_.at(id).ready);
    }
  }
  note_loaded();
}

void Executor::shrink_to_pools() {
  for (int l = 0; l < shape_.layers; ++l) {
    while (cache_.pool_overflow(l) > 0) {
      std::optional<ExpertId> worst;
      double worst_score = 0;
      cache_.for_each_in_pool(l, [&](ExpertId id, ExpertCache::Entry& entry) {
        // What is under way goes first: nobody has it yet.
        const double score = entry.state == State::loading ? -1e300 : policy_->evictor->keep_score(context_, id);
        if (!worst || score < worst_score) worst = id, worst_score = score;
      });
      ES_ASSERT(worst.has_value(), "a pool overflows with nothing in it");
      if (cache_.at(*worst).state == State::loading) settle();
      if (cache_.at(*worst).state != State::absent) evict(*worst, ResidencyChange::dropped);
    }
  }
}

void Executor::resize(int slots) {
  while (cache_.slot_count() > slots) {
    const SlotId slot = cache_.take_free_slot();
    machine_.wait(cache_.last_reader(slot));
    cache_.set_last_reader(slot, 0);
    machine_.remove_slot(slot);
  }
  if (cache_.slot_count() < slots) cache_.add_slots(machine_.add_slots(0, slots - cache_.slot_count(), false));
}

void Executor::place_initially() {
  std::string note;
  const std::vector<ExpertId> targets = policy_->allocator->initial(context_, cache_.pools(), note);
  if (!note.empty() && observer_ != nullptr) {
    observer_->on_health(
        {.code = policy_->spec.preset + ".no_prior", .severity = Severity::warning, .count = 1, .text = note});
  }
  std::vector<bool> is_target(static_cast<std::size_t>(shape_.layers * shape_.experts), false);
  const auto mark = [&](ExpertId id) {
    return is_target[static_cast<std::size_t>(id.layer * shape_.experts + id.expert)];
  };
  for (ExpertId id : targets) mark(id) = true;
  for (ExpertId id : targets) {
    if (cache_.at(id).state != State::absent) continue;
    if (!cache_.pool_has_room(id.layer)) {
      // Room is made by what was used longest ago and is no target, whatever the new evictor would say.
      std::optional<ExpertId> oldest;
      cache_.for_each_in_pool(id.layer, [&](ExpertId other, ExpertCache::Entry& entry) {
        if (entry.state != State::resident || mark(other)) return;
        if (!oldest || use(other).last_use_tick < use(*oldest).last_use_tick) oldest = other;
      });
      if (!oldest) continue;
      evict(*oldest, ResidencyChange::evicted);
    }
    const SlotId slot = cache_.free_slot();
    cache_.start_loading(id, slot, CopyReason::placement);
    cache_.at(id).ready = copy(id, slot, CopyReason::placement, true);
  }
}

void Executor::wait_for_placement() {
  for (ExpertId id : std::vector<ExpertId>(cache_.loading())) machine_.wait(cache_.at(id).ready);
  note_loaded();
}

void Executor::sequence_begins() {
  for (ExpertUse& u : use_) u.uses_in_sequence = 0;
  policy_->sequence_begins();
}

// --- cache

void Executor::emit(const ResidencyRecord& r) {
  if (observer_ != nullptr) observer_->on_event(r);
}

void Executor::note_loaded() {
  for (std::size_t i = 0; i < cache_.loading().size();) {
    const ExpertId id = cache_.loading()[i];
    const ExpertCache::Entry& entry = cache_.at(id);
    if (!machine_.is_done(entry.ready)) {
      ++i;
      continue;
    }
    emit({.at_ns = machine_.completed_ns(entry.ready),
          .step = context_.step,
          .layer = id.layer,
          .expert = id.expert,
          .slot = entry.slot,
          .change = ResidencyChange::loaded,
          .reason = entry.reason,
          .used = entry.used});
    cache_.loaded(id);
  }
}

void Executor::evict(ExpertId id, ResidencyChange change) {
  const ExpertCache::Entry entry = cache_.at(id);
  machine_.unpublish(id);
  cache_.release(id);
  emit({.at_ns = machine_.now(),
        .step = context_.step,
        .layer = id.layer,
        .expert = id.expert,
        .slot = entry.slot,
        .change = change,
        .reason = entry.reason,
        .used = entry.used});
}

// Whom to evict for an expert: the lowest keep score among those that are resident and not wanted by this layer.
std::optional<ExpertId> Executor::victim_for(ExpertId incoming) {
  const Evictor& evictor = *policy_->evictor;
  if (!evictor.evicts()) return std::nullopt;
  std::optional<ExpertId> victim;
  double lowest = 0;
  cache_.for_each_in_pool(incoming.layer, [&](ExpertId id, ExpertCache::Entry& entry) {
    if (entry.state != State::resident) return;
    if (is_demanded(id) && !evictor.compares_incoming()) return;
    if (std::find(wanted_.begin(), wanted_.end(), id) != wanted_.end()) return;
    const double score = evictor.keep_score(context_, id);
    const bool lower =
        !victim || score < lowest || (score == lowest && use(id).last_use_tick < use(*victim).last_use_tick);
    if (lower) victim = id, lowest = score;
  });
  if (victim && evictor.compares_incoming() && evictor.keep_score(context_, incoming) <= lowest) return std::nullopt;
  return victim;
}

std::optional<SlotId> Executor::slot_for(ExpertId incoming) {
  if (!cache_.pool_has_room(incoming.layer)) {
    const std::optional<ExpertId> victim = victim_for(incoming);
    if (!victim) return std::nullopt;
    evict(*victim, ResidencyChange::evicted);
  }
  return cache_.free_slot();
}

Ticket Executor::copy(ExpertId id, SlotId slot, CopyReason reason, bool publish) {
  return machine_.copy_expert(
      {.expert = id, .slot = slot, .reason = reason, .publish = publish, .after = cache_.last_reader(slot)});
}

// --- a step

void Executor::run_step(const StepInput& input, Phase phase, std::span<const RouteRecord> given) {
  context_.step = input.step;
  context_.phase = phase;
  note_loaded();  // before the machine forgets completed copies
  machine_.begin_step(input);
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
  // Tick 0 means never: the first layer of the first step is tick 1.
  context_.tick =
      std::uint64_t{context_.step} * static_cast<std::uint64_t>(shape_.layers) + static_cast<std::uint64_t>(layer) + 1;
  machine_.attention(layer);
  const int ahead = shape_.layers - 1 - layer;
  const int used = std::min(policy_->lookahead(), ahead);
  machine_.router({.layer = layer,
                   .lookahead_used = used,
                   .lookahead_recorded = std::min(std::max(used, shape_.recorded_gates), ahead),
                   .start_resident = policy_->gate->keeps_router(),
                   .given = given});
  const LayerRoutes routes = machine_.wait_routes();
  flush_demands();
  if (observer_ != nullptr) {
    for (const RouteRecord& r : routes.tokens) observer_->on_route(r);
  }
  machine_.begin_host_work(WorkKind::policy);
  plan(routes);
  machine_.end_host_work();
  carry_out(routes);
}

// Decides everything for the layer. Changes the cache's map, issues nothing.
void Executor::plan(const LayerRoutes& routes) {
  note_loaded();
  std::fill(demanded_.begin(), demanded_.end(), std::uint8_t{0});
  views_.clear();
  wanted_.clear();
  plan_.clear();
  prefetches_.clear();
  for (const Demand& d : routes.demands) {
    demanded_[d.expert.expert] = 1;
    const ExpertCache::Entry& entry = cache_.at(d.expert);
    const bool usable = d.started != 0 || (!policy_->gate->keeps_router() && entry.state == State::resident);
    const DemandState state = usable                         ? DemandState::hit
                              : entry.state != State::absent ? DemandState::late
                                                             : DemandState::miss;
    views_.push_back({.demand = &d, .state = state});
    ExpertUse& u = use(d.expert);
    u.last_use_tick = context_.tick;
    ++u.uses;
    ++u.uses_in_sequence;
  }
  policy_->scheduler->order(context_, views_);
  if (policy_->evictor->compares_incoming()) {
    // An evictor that may refuse an expert must see the most worthy first, or a later one would have to displace it.
    std::stable_sort(views_.begin(), views_.end(), [&](const DemandView& a, const DemandView& b) {
      if (a.state != b.state) return a.state < b.state;
      return policy_->evictor->keep_score(context_, a.demand->expert) >
             policy_->evictor->keep_score(context_, b.demand->expert);
    });
  }
  cancel_refuted();
  for (const DemandView& v : views_) plan_demand(v);
  plan_prefetches(routes);
}

// Queued prefetches for this layer that its router did not confirm.
void Executor::cancel_refuted() {
  if (!policy_->prefetcher->cancels_refuted()) return;
  const std::vector<ExpertId> loading = cache_.loading();
  for (ExpertId id : loading) {
    const ExpertCache::Entry& entry = cache_.at(id);
    if (id.layer != context_.layer || entry.reason != CopyReason::prefetch || is_demanded(id)) continue;
    if (machine_.cancel_copy(entry.ready)) cache_.release(id);
  }
}

void Executor::plan_demand(const DemandView& view) {
  const Demand& d = *view.demand;
  ExpertCache::Entry& entry = cache_.at(d.expert);
  Planned p{.demand = &d, .state = view.state};
  if (view.state == DemandState::miss) {
    plan_miss(d, p);
  } else {
    p.path = d.started != 0 ? Path::started : Path::slot;
    p.slot = entry.slot;
    p.prefetched = entry.reason == CopyReason::prefetch && !entry.used;
    entry.used = true;
    if (d.started != 0) cache_.set_last_reader(entry.slot, d.started);
  }
  plan_.push_back(p);
}

void Executor::plan_miss(const Demand& d, Planned& p) {
  if (policy_->placer->place(context_, d) == Placement::cpu) {
    p.path = Path::cpu;
    return;
  }
  if (const std::optional<SlotId> slot = slot_for(d.expert)) {
    cache_.start_loading(d.expert, *slot, CopyReason::demand);
    cache_.at(d.expert).used = true;
    use(d.expert).loaded_tick = context_.tick;
    p.path = Path::fetch;
    p.slot = *slot;
    return;
  }
  p.path = Path::stream;
  p.slot = staging_[next_staging_++ % staging_.size()];
}

void Executor::plan_prefetches(const LayerRoutes& routes) {
  const int depth = policy_->prefetcher->depth();
  if (depth == 0) return;
  candidates_.clear();
  policy_->predictor->predict(context_, routes, depth, candidates_);
  policy_->prefetcher->choose(context_, candidates_, wanted_);
  for (ExpertId id : wanted_) {
    if (cache_.at(id).state != State::absent) continue;
    const std::optional<SlotId> slot = slot_for(id);
    if (!slot) continue;
    cache_.start_loading(id, *slot, CopyReason::prefetch);
    use(id).loaded_tick = context_.tick;
    prefetches_.push_back(id);
  }
}

// Issues the plan: every demand copy before any work, so that the link starts at once, and prefetches last.
void Executor::carry_out(const LayerRoutes& routes) {
  tickets_.clear();
  for (const Planned& p : plan_) {
    if (p.path == Path::fetch)
      cache_.at(p.demand->expert).ready = copy(p.demand->expert, p.slot, CopyReason::demand, true);
    if (p.path == Path::slot) machine_.raise_copy(cache_.at(p.demand->expert).ready);
  }
  for (const Planned& p : plan_) {
    const Ticket done = carry_out(p);
    tickets_.push_back(done);
    const ExpertId id = p.demand->expert;
    std::uint16_t picks = static_cast<std::uint16_t>(p.demand->rows.size());
    pending_.push_back(
        {.record = {.asked_ns = routes.asked_ns,
                    .step = context_.step,
                    .layer = id.layer,
                    .expert = id.expert,
                    .picks = picks,
                    .rank = p.demand->rank,
                    .weight = p.demand->weight,
                    .state = p.state,
                    .outcome = outcome_of(p.path == Path::fetch, p.path == Path::stream, p.path == Path::cpu),
                    .prefetched = p.prefetched},
         .done = done});
  }
  machine_.combine(context_.layer, tickets_);
  issue_prefetches();
}

Ticket Executor::carry_out(const Planned& p) {
  const Demand& d = *p.demand;
  if (p.path == Path::started) return d.started;
  if (p.path == Path::cpu) return machine_.expert_on_cpu(d);
  Ticket filled = 0;
  if (p.path == Path::stream) {
    filled = copy(d.expert, p.slot, CopyReason::demand, false);
  } else {
    filled = cache_.at(d.expert).ready;
  }
  const Ticket done = machine_.expert_on_gpu(d, p.slot, filled);
  cache_.set_last_reader(p.slot, done);
  return done;
}

void Executor::issue_prefetches() {
  for (ExpertId id : prefetches_) {
    ExpertCache::Entry& entry = cache_.at(id);
    entry.ready = copy(id, entry.slot, CopyReason::prefetch, true);
  }
}

// Demands are told when their completion is known: at the next point where the host has waited for the device.
void Executor::flush_demands() {
  if (observer_ != nullptr) {
    for (PendingDemand& p : pending_) {
      p.record.ready_ns = machine_.completed_ns(p.done);
      observer_->on_event(p.record);
    }
  }
  pending_.clear();
}

}  // namespace expertscope
