// What a layer's demands become: everything is decided before anything is issued.
#include <algorithm>

#include "engine/assert.h"
#include "engine/run/executor.h"

namespace expertscope {
namespace {

using State = ExpertCache::State;

}  // namespace

void Executor::begin_plan() {
  note_loaded();
  ++plans_;
  std::ranges::fill(demanded_, std::uint8_t{0});
  std::ranges::fill(planned_, std::uint16_t{0});
  views_.clear();
  swaps_.clear();
  wanted_.clear();
  plan_.clear();
  prefetches_.clear();
}

// Changes the cache's map, issues nothing.
void Executor::plan(const LayerRoutes& routes) {
  begin_plan();
  count_uses(routes);
  policy_->each([&](Component& c) { c.routed(context_, routes); });
  if (policy_->allocator->reallocates(context_.phase)) plan_swaps(routes);
  for (const Demand& d : routes.demands) {
    views_.push_back(view_of(routes, d));
  }
  order_views();
  placements_.clear();
  for (const DemandView& v : views_)
    placements_.push_back(v.state == DemandState::miss ? Placement::fetch : Placement::slot);
  policy_->placer->place(context_, views_, placements_);
  drop_refuted();
  for (std::size_t i = 0; i < views_.size(); ++i) plan_demand(views_[i], placements_[i]);
  plan_prefetches(routes);
}

void Executor::count_uses(const LayerRoutes& routes) {
  const auto before = context_.tokens - static_cast<std::uint32_t>(routes.tokens.size());
  for (const Demand& d : routes.demands) {
    demanded_[d.expert.expert] = 1;
    ExpertUse& u = use(d.expert);
    u.previous_use_tick = u.last_use_tick;
    u.last_use_tick = context_.tick;
    ++u.uses;
    ++u.uses_in_sequence;
    ++u.uses_since_load;
    u.tokens_in_sequence += static_cast<std::uint32_t>(d.rows.size());
    for (const Arithmetic::ExpertRow& row : d.rows)
      u.last_token = std::max(u.last_token, before + static_cast<std::uint32_t>(row.token) + 1);
  }
}

// Which version of the expert serves the demand, and whether it is there. What is resident in the main pool always
// serves.
DemandView Executor::view_of(const LayerRoutes& routes, const Demand& d) {
  const auto state_in = [&](const ExpertCache& cache) {
    const State state = cache.at(d.expert).state;
    if (&cache == &cache_ && device_starts_)
      return d.started != 0 ? DemandState::hit : state == State::absent ? DemandState::miss : DemandState::late;
    return state == State::resident ? DemandState::hit : state == State::absent ? DemandState::miss : DemandState::late;
  };
  const DemandState main = state_in(cache_);
  const bool low = main != DemandState::hit && low_.precision() != Precision::native &&
                   policy_->precision->wants_low(context_, routes, d);
  if (!low) return {.demand = &d, .state = main, .low = false};
  return {.demand = &d, .state = state_in(low_), .low = true};
}

void Executor::order_views() {
  policy_->scheduler->order(context_, views_);
  const Evictor& evictor = *policy_->evictor;
  if (!evictor.compares_incoming()) return;
  // An evictor that may refuse an expert must see the most worthy first, or a later one would have to displace it.
  std::ranges::stable_sort(views_, [&](const DemandView& a, const DemandView& b) {
    if (a.state != b.state) return a.state < b.state;
    return evictor.keep_score(context_, a.demand->expert) > evictor.keep_score(context_, b.demand->expert);
  });
}

void Executor::plan_swaps(const LayerRoutes& routes) {
  policy_->allocator->reallocate(context_, routes, swaps_);
  std::erase_if(swaps_, [&](const Swap& s) {
    return cache_.at(s.out).state != State::resident || cache_.at(s.in).state != State::absent ||
           cache_.pool_number(s.in) != cache_.pool_number(s.out);
  });
  for (const Swap& s : swaps_) {
    evict(cache_, s.out, ResidencyChange::evicted);
    start_loading(cache_, s.in, cache_.free_slot(s.in), CopyReason::promotion);
  }
}

// Early copies for this layer that its router did not confirm: queued ones, if the policy says so, and all that wait in
// staging slots.
void Executor::drop_refuted() {
  if (policy_->prefetcher->cancels_refuted()) {
    for (ExpertCache* cache : {&cache_, &low_}) {
      const std::vector<ExpertId> loading = cache->loading();
      for (ExpertId id : loading) {
        const ExpertCache::Entry& entry = cache->at(id);
        if (id.layer != context_.layer || entry.reason != CopyReason::prefetch || is_demanded(id)) continue;
        if (machine_.cancel_copy(entry.ready)) cache->release(id);
      }
    }
  }
  const std::vector<ExpertId> staged = cache_.staged();
  for (ExpertId id : staged) {
    const ExpertCache::Entry& entry = cache_.at(id);
    if (entry.expected_tick > context_.tick || is_demanded(id)) continue;
    if (entry.state == State::resident) evict(cache_, id, ResidencyChange::evicted);
  }
}

void Executor::plan_demand(const DemandView& view, Placement placement) {
  const Demand& d = *view.demand;
  Planned p{.demand = &d, .cache = view.low ? &low_ : &cache_, .state = view.state};
  if (view.low) use(d.expert).low_tokens_in_sequence += static_cast<std::uint32_t>(d.rows.size());
  use(d.expert).last_use_number = ++uses_planned_;
  if (early_result(d.expert) != 0) {
    p.path = Path::early;
  } else if (view.state == DemandState::miss) {
    plan_miss(d, placement, p);
  } else if (placement == Placement::cpu && d.started == 0) {
    p.path = Path::cpu;
  } else {
    plan_slot(d, p);
  }
  plan_.push_back(p);
  planned_[d.expert.expert] = static_cast<std::uint16_t>(plan_.size());
  if (policy_->evictor->evicts_demanded()) {
    for (const ExpertCache* cache : {&cache_, &low_}) offer_planned(*cache, d.expert);
  }
}

void Executor::plan_slot(const Demand& d, Planned& p) {
  ExpertCache::Entry& entry = p.cache->at(d.expert);
  p.path = d.started != 0 ? Path::started : Path::slot;
  p.slot = entry.slot;
  p.prefetched = entry.reason == CopyReason::prefetch && !entry.used;
  entry.used = true;
  if (d.started != 0) last_readers_.set(entry.slot, d.started);
  if (entry.staged && make_room(cache_, d.expert)) cache_.adopt(d.expert);
}

void Executor::plan_miss(const Demand& d, Placement placement, Planned& p) {
  if (placement == Placement::cpu) {
    p.path = Path::cpu;
    return;
  }
  if (placement == Placement::fetch) {
    if (const std::optional<SlotId> slot = slot_for(*p.cache, d.expert)) {
      p.path = Path::fetch;
      p.slot = *slot;
      p.slot_in_use = std::ranges::any_of(plan_, [&](const Planned& other) { return other.slot == *slot; });
      start_loading(*p.cache, d.expert, *slot, CopyReason::demand);
      p.cache->at(d.expert).used = true;
      return;
    }
  }
  p.path = Path::stream;
  Staging& staging = staging_[cache_.device_of(d.expert)];
  p.slot = staging.slots[staging.next++ % staging.slots.size()];
}

void Executor::plan_prefetches(const LayerRoutes& routes) {
  const Prefetcher& prefetcher = *policy_->prefetcher;
  if (prefetcher.depth() == 0) return;
  candidates_.clear();
  policy_->predictor->predict(context_, routes, prefetcher.depth(), candidates_);
  policy_->prefetcher->choose(context_, candidates_, wanted_);
  for (const EarlyCopy& w : wanted_) wanted_in_[context_.index(w.expert)] = plans_;
  for (EarlyCopy& w : wanted_) {
    if (prefetcher.staging_slots() == 0 && cache_.at(w.expert).state == State::absent)
      w.low = w.low || policy_->precision->only_low(context_, w.expert);
    ExpertCache& cache = w.low ? low_ : cache_;
    if (cache.at(w.expert).state != State::absent) continue;
    if (prefetcher.staging_slots() > 0) {
      if (!cache_.has_staged_slot(w.expert)) continue;
      cache_.start_staging(w.expert, CopyReason::prefetch,
                           context_.tick + static_cast<std::uint64_t>(context_.layers_ahead(w.expert)));
      note_load(w.expert);
    } else if (const std::optional<SlotId> slot = slot_for(cache, w.expert)) {
      start_loading(cache, w.expert, *slot, CopyReason::prefetch);
    } else {
      continue;
    }
    prefetches_.push_back(w);
  }
}

// What the next layer executes, where the gate decides it now, and what of it the CPU begins at once.
void Executor::plan_next_layer(const LayerRoutes& routes) {
  Gate& gate = *policy_->gate;
  if (context_.layer + 1 >= shape_.layers || !gate.decides_next(context_)) return;
  for (const RouteRecord& r : routes.tokens) {
    next_executed_.push_back(
        {.step = r.step, .layer = static_cast<std::uint16_t>(r.layer + 1), .token = r.token, .picks = r.picks});
  }
  gate.decide_next(context_, routes, next_executed_);
  if (!policy_->placer->runs_early()) return;
  for (const Demand& d : next_groups_.group(context_.layer + 1, shape_.experts, next_executed_)) {
    if (cache_.at(d.expert).state == State::absent) next_on_cpu_.push_back(&d);
  }
}

Ticket Executor::early_result(ExpertId id) const {
  const auto found = std::ranges::find(early_, id, &EarlyWork::expert);
  return found != early_.end() ? found->done : 0;
}

void Executor::start_loading(ExpertCache& cache, ExpertId id, SlotId slot, CopyReason reason) {
  cache.start_loading(id, slot, reason);
  note_load(id);
}

void Executor::note_load(ExpertId id) {
  ExpertUse& u = use(id);
  u.loaded_tick = context_.tick;
  u.load_number = ++loads_;
  u.uses_since_load = is_demanded(id) ? 1 : 0;
}

}  // namespace expertscope
