// The executor's hold on the cache: what is placed when a policy begins, who makes room for whom, what has arrived.
#include <algorithm>
#include <numeric>
#include <utility>

#include <fmt/format.h>

#include "engine/assert.h"
#include "engine/error.h"
#include "engine/run/executor.h"

namespace expertscope {
namespace {

// Weights that are streamed pass through these; two let one be filled while the other is read.
constexpr int kStagingSlots = 2;

using State = ExpertCache::State;

}  // namespace

// --- configuration

void Executor::configure(const PolicySpec& spec, int slots, bool reset_cache) {
  check_fits(spec, slots, shape_.layers * shape_.experts);
  auto policy = std::make_unique<Policy>(spec);
  if (!policy->exact() && !machine_.can_revise()) {
    throw InputError(
        fmt::format("policy {} changes what is executed, which this machine cannot do yet: choose an exact "
                    "policy or an emulated machine",
                    to_string(spec)));
  }
  Layout layout = layout_of(*policy, slots);
  ensure_fits(*policy, layout);
  machine_.hold_sequences(layout.sequences);
  machine_.prepare(policy->precision->high(context_));
  machine_.prepare(policy->precision->low(context_));
  const bool other_versions =
      cache_.precision() != policy->precision->high(context_) || low_.precision() != policy->precision->low(context_);
  const bool other_slots = other_versions || cache_.homes() != layout.homes;
  if (policy_) policy->take_over(*policy_, state_);
  policy_ = std::move(policy);
  add_staging();
  context_.slots = layout.sizes.high;
  state_.held_until.resize(use_.size(), 0);
  if (other_slots) resize_staged(0);  // those that came from a pool are of its precision, and on its GPU
  resize_staged(layout.staged);
  const bool smaller = layout.sizes.high < cache_.slot_count() || layout.sizes.low < low_.slot_count();
  if (smaller || reset_cache || other_slots) settle();
  if (reset_cache || other_slots) {
    empty(cache_);
    empty(low_);
  }
  if (other_slots) start_over(layout);
  set_pools(low_, std::move(layout.low));
  set_pools(cache_, std::move(layout.high));
  place_initially();
}

// Caches that are empty get slots of other precisions, or on other GPUs.
void Executor::start_over(const Layout& layout) {
  for (ExpertCache* cache : {&cache_, &low_}) {
    for (int d = 0; d < context_.devices; ++d) resize(*cache, d, 0);
  }
  if (cache_.homes() != layout.homes) {
    resize_staged(0);
    for (ExpertCache* cache : {&cache_, &low_}) cache->set_homes(layout.homes, context_.devices);
    resize_staged(layout.staged);
  }
  cache_.set_precision(policy_->precision->high(context_));
  low_.set_precision(policy_->precision->low(context_));
}

Executor::Layout Executor::layout_of(const Policy& policy, int slots) const {
  Layout layout{.sizes = pool_sizes(policy, slots), .homes = homes_of(policy.capacity->balance(), context_)};
  layout.high = divided(policy, layout.sizes.high, layout.homes);
  layout.low = divided(policy, layout.sizes.low, layout.homes);
  layout.staged = policy.prefetcher->staging_slots();
  layout.sequences = std::max(sequences_begun_, sequences_held(policy));
  return layout;
}

void Executor::ensure_fits(const Policy& policy, const Layout& layout) const {
  for (int d = 0; d < context_.devices; ++d) {
    machine_.ensure_fits({.device = d,
                          .main = layout.high.slots_on(d),
                          .staging = kStagingSlots + layout.staged,
                          .high_precision = policy.precision->high(context_),
                          .low = layout.low.slots_on(d),
                          .low_precision = policy.precision->low(context_),
                          .sequences = layout.sequences});
  }
}

// How the budget of so many native slots is shared by the two pools of a policy's precisions.
Executor::PoolSizes Executor::pool_sizes(const Policy& policy, int slots) const {
  PrecisionChooser& chooser = *policy.precision;
  const std::int64_t budget = slots * machine_.expert_bytes(Precision::native);
  const bool has_low = chooser.low(context_) != Precision::native;
  const double low_share = has_low ? chooser.low_share(context_) : 0;
  PoolSizes sizes;
  sizes.high = chooser.high(context_) == Precision::native && !has_low
                   ? slots
                   : static_cast<int>(static_cast<double>(budget) * (1 - low_share) /
                                      static_cast<double>(machine_.expert_bytes(chooser.high(context_))));
  const int all = shape_.layers * shape_.experts;
  sizes.high = std::min(sizes.high, all);
  if (has_low) {
    const std::int64_t left = budget - sizes.high * machine_.expert_bytes(chooser.high(context_));
    sizes.low = std::min(all, static_cast<int>(left / machine_.expert_bytes(chooser.low(context_))));
  }
  return sizes;
}

int Executor::DividedPools::slots_on(int device) const {
  const std::vector<int>& slots = by_device[static_cast<std::size_t>(device)].slots;
  return std::accumulate(slots.begin(), slots.end(), 0);
}

Executor::DividedPools Executor::divided(const Policy& policy, int slots,
                                         const std::vector<std::uint8_t>& homes) const {
  PolicyContext context = context_;
  context.slots = slots;
  Pools all = policy.capacity->split(context);
  std::vector<Pools> by_device = divide(all, homes, context);
  return {.all = std::move(all), .by_device = std::move(by_device)};
}

void Executor::set_pools(ExpertCache& cache, DividedPools pools) {
  cache.set_pools(std::move(pools.all), std::move(pools.by_device));
  shrink_to_pools(cache);
  for (int d = 0; d < context_.devices; ++d) resize(cache, d, cache.pool_slots(d));
}

void Executor::empty(ExpertCache& cache) {
  for (int l = 0; l < shape_.layers; ++l) {
    for (int e = 0; e < shape_.experts; ++e) {
      const ExpertId id{static_cast<std::uint16_t>(l), static_cast<std::uint16_t>(e)};
      if (cache.at(id).state != State::absent) evict(cache, id, ResidencyChange::dropped);
    }
  }
}

// Copies under way end or are cancelled, so that every slot is either free or readable.
void Executor::settle() {
  for (ExpertCache* cache : {&cache_, &low_}) {
    const std::vector<ExpertId> loading = cache->loading();
    for (ExpertId id : loading) {
      if (machine_.cancel_copy(cache->at(id).ready)) {
        cache->release(id);
      } else {
        machine_.wait(cache->at(id).ready);
      }
    }
  }
  note_loaded();
}

void Executor::shrink_to_pools(ExpertCache& cache) {
  for (int l = 0; l < shape_.layers; ++l) {
    for (int e = 0; e < shape_.experts; ++e)
      shrink_pool(cache, {static_cast<std::uint16_t>(l), static_cast<std::uint16_t>(e)});
  }
}

void Executor::shrink_pool(ExpertCache& cache, ExpertId member) {
  if (cache.pool_overflow(member) <= 0) return;
  // What is under way goes first: nobody has it yet. Ties: the lower layer and expert.
  std::vector<std::pair<double, ExpertId>> first_to_go;
  for (ExpertId id : cache.in_pool_of(member)) {
    const bool loading = cache.at(id).state == State::loading;
    first_to_go.emplace_back(loading ? -1e300 : policy_->evictor->keep_score(context_, id), id);
  }
  std::ranges::sort(first_to_go);
  for (const auto& [score, id] : first_to_go) {
    if (cache.pool_overflow(member) <= 0) return;
    if (cache.at(id).state == State::loading) settle();
    if (cache.at(id).state != State::absent) evict(cache, id, ResidencyChange::dropped);
  }
}

// --- slots

void Executor::add_staging() {
  for (int d = static_cast<int>(staging_.size()); d < context_.devices; ++d)
    staging_.push_back({.slots = machine_.add_slots(d, kStagingSlots, true, Precision::native)});
}

void Executor::remove_slot(SlotId slot) {
  machine_.wait(last_readers_.of(slot));
  last_readers_.set(slot, 0);
  machine_.remove_slot(slot);
}

// Slots in which early copies wait. What waits there is dropped when their number changes.
void Executor::resize_staged(int slots) {
  if (cache_.staged_slot_count(0) == slots) return;
  settle();
  while (!cache_.staged().empty()) evict(cache_, cache_.staged().back(), ResidencyChange::dropped);
  for (int d = 0; d < context_.devices; ++d) {
    while (cache_.staged_slot_count(d) > slots) remove_slot(cache_.take_staged_slot(d));
    const int more = slots - cache_.staged_slot_count(d);
    if (more > 0) cache_.add_staged_slots(d, machine_.add_slots(d, more, true, Precision::native));
  }
}

void Executor::resize(ExpertCache& cache, int device, int slots) {
  while (cache.slot_count(device) > slots) remove_slot(cache.take_free_slot(device));
  const int more = slots - cache.slot_count(device);
  if (more > 0) cache.add_slots(device, machine_.add_slots(device, more, false, cache.precision()));
}

// Those that their pools have room for.
std::vector<ExpertId> Executor::fitting(const ExpertCache& cache, std::vector<ExpertId> best_first) {
  std::vector<int> taken(cache.pool_count(), 0);
  std::erase_if(best_first, [&](ExpertId id) { return ++taken[cache.pool_number(id)] > cache.pool_room(id); });
  return best_first;
}

void Executor::place_initially() {
  std::string note;
  std::vector<ExpertId> high = policy_->allocator->initial(context_, cache_.pools(), note), low;
  std::erase_if(high, [&](ExpertId id) {
    const bool is_low = policy_->precision->only_low(context_, id);
    if (is_low) low.push_back(id);
    return is_low;
  });
  policy_->each([&](const Component& c) {
    const std::string lacks = c.uninformed(context_);
    if (!lacks.empty()) note += (note.empty() ? "" : "; ") + lacks;
  });
  policy_->each([&](const Component& c) { note = note.empty() ? c.misses(context_) : note; });
  if (!note.empty() && observer_ != nullptr) {
    observer_->on_health(
        {.code = policy_->spec.preset + ".no_prior", .severity = Severity::warning, .count = 1, .text = note});
  }
  place(cache_, fitting(cache_, std::move(high)));
  place(low_, fitting(low_, std::move(low)));
}

void Executor::place(ExpertCache& cache, const std::vector<ExpertId>& targets) {
  std::vector<bool> is_target(static_cast<std::size_t>(shape_.layers * shape_.experts), false);
  const auto mark = [&](ExpertId id) {
    return is_target[static_cast<std::size_t>(id.layer * shape_.experts + id.expert)];
  };
  for (ExpertId id : targets) mark(id) = true;
  for (ExpertId id : targets) {
    if (cache.at(id).state != State::absent) continue;
    if (!cache.pool_has_room(id)) {
      // Room is made by what was used longest ago and is no target, whatever the new evictor would say.
      std::optional<ExpertId> oldest;
      const auto age = [&](ExpertId other) { return std::pair(use(other).last_use_tick, other); };
      for (ExpertId other : cache.in_pool_of(id)) {
        if (cache.at(other).state != State::resident || mark(other)) continue;
        if (!oldest || age(other) < age(*oldest)) oldest = other;
      }
      if (!oldest) continue;
      evict(cache, *oldest, ResidencyChange::evicted);
    }
    const SlotId slot = cache.free_slot(id);
    start_loading(cache, id, slot, CopyReason::placement);
    cache.at(id).ready = copy(cache, id, slot, CopyReason::placement, true);
  }
}

void Executor::wait_for_placement() {
  for (ExpertCache* cache : {&cache_, &low_}) {
    for (ExpertId id : std::vector<ExpertId>(cache->loading())) machine_.wait(cache->at(id).ready);
  }
  note_loaded();
}

// --- the map

void Executor::emit(const ResidencyRecord& r) {
  if (observer_ != nullptr) observer_->on_event(r);
}

void Executor::note_loaded() {
  note_loaded(cache_);
  note_loaded(low_);
}

void Executor::note_loaded(ExpertCache& cache) {
  for (std::size_t i = 0; i < cache.loading().size();) {
    const ExpertId id = cache.loading()[i];
    const ExpertCache::Entry& entry = cache.at(id);
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
          .used = entry.used,
          .device = cache.device_of(id)});
    cache.loaded(id);
  }
}

void Executor::evict(ExpertCache& cache, ExpertId id, ResidencyChange change) {
  const ExpertCache::Entry entry = cache.at(id);
  if (&cache == &cache_) machine_.unpublish(id);
  cache.release(id);
  emit({.at_ns = machine_.now(),
        .step = context_.step,
        .layer = id.layer,
        .expert = id.expert,
        .slot = entry.slot,
        .change = change,
        .reason = entry.reason,
        .used = entry.used,
        .device = cache.device_of(id)});
}

// Whether it is resident and not wanted by this layer or by a prefetch of this plan; an evictor may give up what this
// layer wants once that is planned.
bool Executor::may_leave(const ExpertCache& cache, ExpertId id) const {
  if (wanted_in_[context_.index(id)] == plans_) return false;
  const ExpertCache::Entry& entry = cache.at(id);
  if (!is_demanded(id)) return entry.state == State::resident;
  const bool planned = planned_[id.expert] != 0;
  return planned && policy_->evictor->evicts_demanded() &&
         (entry.state != State::loading || entry.reason == CopyReason::demand);
}

// What is held for a coming layer goes only when nothing else can, that of the farthest layer first.
int Executor::hold_of(ExpertId id) const {
  return state_.held_until[context_.index(id)] > context_.tick ? 1 + shape_.layers - context_.layers_ahead(id) : 0;
}

Victims& Executor::victims_in(const ExpertCache& cache, ExpertId member) {
  return victims_[(&cache == &low_ ? cache.pool_count() : 0) + cache.pool_number(member)];
}

void Executor::look_for_victims(const ExpertCache& cache, ExpertId incoming) {
  const std::span<const ExpertId> pool = cache.in_pool_of(incoming);
  scores_.resize(pool.size());
  policy_->evictor->keep_scores(context_, pool, scores_);
  Victims& victims = victims_in(cache, incoming);
  victims.begin(plans_, scores_);
  for (std::size_t i = 0; i < pool.size(); ++i) {
    if (victims.leaves_out(scores_[i])) continue;
    const ExpertId id = pool[i];
    const bool wanted = is_demanded(id) || wanted_in_[context_.index(id)] == plans_;
    if (wanted || cache.at(id).state != State::resident) continue;
    victims.offer({.held = hold_of(id), .score = scores_[i], .last_use = use(id).last_use_tick, .id = id});
  }
  if (!policy_->evictor->evicts_demanded()) return;
  for (const Planned& p : plan_) {
    if (&victims == &victims_in(cache, p.demand->expert)) offer_planned(cache, p.demand->expert);
  }
}

// Where a demand of this layer may leave as soon as it is planned.
void Executor::offer_planned(const ExpertCache& cache, ExpertId id) {
  Victims& victims = victims_in(cache, id);
  if (!victims.begun(plans_) || !cache.is_in_pool(id) || !may_leave(cache, id)) return;
  victims.offer({.held = hold_of(id),
                 .score = policy_->evictor->keep_score(context_, id),
                 .last_use = use(id).last_use_tick,
                 .id = id});
}

// Whom to evict for an expert: the lowest keep score among those that may leave. While a plan is made, scores stay as
// they are; what may leave can come to be wanted or held.
std::optional<ExpertId> Executor::victim_for(ExpertCache& cache, ExpertId incoming) {
  const Evictor& evictor = *policy_->evictor;
  if (!evictor.evicts()) return std::nullopt;
  Victims& victims = victims_in(cache, incoming);
  if (!victims.begun(plans_)) look_for_victims(cache, incoming);
  while (true) {
    if (victims.empty() && victims.left_some_out()) look_for_victims(cache, incoming);
    if (victims.empty()) return std::nullopt;
    Victim first = victims.take_first();
    if (!may_leave(cache, first.id)) continue;
    if (const int hold = hold_of(first.id); hold != first.held) {
      first.held = hold;
      victims.offer(first);
      continue;
    }
    if (evictor.compares_incoming() && evictor.keep_score(context_, incoming) <= first.score) {
      victims.offer(first);
      return std::nullopt;
    }
    return first.id;
  }
}

// A free slot in the expert's pool, or one that a resident gives up; false when none does.
bool Executor::make_room(ExpertCache& cache, ExpertId incoming) {
  if (cache.pool_has_room(incoming)) return true;
  const std::optional<ExpertId> victim = victim_for(cache, incoming);
  if (!victim) return false;
  if (cache.at(*victim).state == State::loading) {
    // A demand of this very layer, not even issued: it passes through its slot and is not kept.
    plan_[planned_[victim->expert] - std::size_t{1}].path = Path::stream;
    cache.release(*victim);
  } else {
    evict(cache, *victim, ResidencyChange::evicted);
  }
  return true;
}

std::optional<SlotId> Executor::slot_for(ExpertCache& cache, ExpertId incoming) {
  if (!make_room(cache, incoming)) return std::nullopt;
  return cache.free_slot(incoming);
}

// The device starts by itself only from the main pool.
Ticket Executor::copy(const ExpertCache& cache, ExpertId id, SlotId slot, CopyReason reason, bool keep) {
  return machine_.copy_expert({.expert = id,
                               .precision = cache.precision(),
                               .device = cache.device_of(id),
                               .slot = slot,
                               .reason = reason,
                               .publish = keep && &cache == &cache_,
                               .after = last_readers_.of(slot)});
}

}  // namespace expertscope
