// The executor's hold on the cache: what is placed when a policy begins, who makes room for whom, what has arrived.
#include <algorithm>

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
  const PoolSizes sizes = pool_sizes(*policy, slots);
  const int sequences = std::max(sequences_begun_, sequences_held(*policy));
  machine_.ensure_fits({.main = sizes.high,
                        .staging = kStagingSlots + policy->prefetcher->staging_slots(),
                        .high_precision = policy->precision->high(),
                        .low = sizes.low,
                        .low_precision = policy->precision->low(),
                        .sequences = sequences});
  machine_.hold_sequences(sequences);
  machine_.prepare(policy->precision->high());
  machine_.prepare(policy->precision->low());
  const bool other_versions =
      cache_.precision() != policy->precision->high() || low_.precision() != policy->precision->low();
  if (policy_) policy->take_over(*policy_, state_);
  policy_ = std::move(policy);
  if (staging_.empty()) staging_ = machine_.add_slots(0, kStagingSlots, true, Precision::native);
  context_.slots = sizes.high;
  state_.held_until.resize(use_.size(), 0);
  if (other_versions) resize_staged(0);  // those that came from a pool are of its precision
  resize_staged(policy_->prefetcher->staging_slots());
  const bool smaller = sizes.high < cache_.slot_count() || sizes.low < low_.slot_count();
  if (smaller || reset_cache || other_versions) settle();
  if (reset_cache || other_versions) {
    empty(cache_);
    empty(low_);
  }
  if (other_versions) {
    resize(cache_, 0);
    resize(low_, 0);
    cache_.set_precision(policy_->precision->high());
    low_.set_precision(policy_->precision->low());
  }
  set_pools(low_, sizes.low);
  set_pools(cache_, sizes.high);
  place_initially();
}

// How the budget of so many native slots is shared by the two pools of a policy's precisions.
Executor::PoolSizes Executor::pool_sizes(const Policy& policy, int slots) const {
  const PrecisionChooser& chooser = *policy.precision;
  const std::int64_t budget = slots * machine_.expert_bytes(Precision::native);
  const bool has_low = chooser.low() != Precision::native;
  const double low_share = has_low ? chooser.low_share() : 0;
  PoolSizes sizes;
  sizes.high = chooser.high() == Precision::native && !has_low
                   ? slots
                   : static_cast<int>(static_cast<double>(budget) * (1 - low_share) /
                                      static_cast<double>(machine_.expert_bytes(chooser.high())));
  const int all = shape_.layers * shape_.experts;
  sizes.high = std::min(sizes.high, all);
  if (has_low) {
    const std::int64_t left = budget - sizes.high * machine_.expert_bytes(chooser.high());
    sizes.low = std::min(all, static_cast<int>(left / machine_.expert_bytes(chooser.low())));
  }
  return sizes;
}

void Executor::set_pools(ExpertCache& cache, int slots) {
  PolicyContext context = context_;
  context.slots = slots;
  cache.set_pools(policy_->capacity->split(context));
  shrink_to_pools(cache);
  resize(cache, slots);
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
    while (cache.pool_overflow(l) > 0) {
      std::optional<ExpertId> worst;
      double worst_score = 0;
      cache.for_each_in_pool(l, [&](ExpertId id, ExpertCache::Entry& entry) {
        // What is under way goes first: nobody has it yet.
        const double score = entry.state == State::loading ? -1e300 : policy_->evictor->keep_score(context_, id);
        if (!worst || score < worst_score) worst = id, worst_score = score;
      });
      ES_ASSERT(worst.has_value(), "a pool overflows with nothing in it");
      if (cache.at(*worst).state == State::loading) settle();
      if (cache.at(*worst).state != State::absent) evict(cache, *worst, ResidencyChange::dropped);
    }
  }
}

// Slots in which early copies wait. What waits there is dropped when their number changes.
void Executor::resize_staged(int slots) {
  if (cache_.staged_slot_count() == slots) return;
  settle();
  while (!cache_.staged().empty()) evict(cache_, cache_.staged().back(), ResidencyChange::dropped);
  while (cache_.staged_slot_count() > slots) {
    const SlotId slot = cache_.take_staged_slot();
    machine_.wait(last_readers_.of(slot));
    last_readers_.set(slot, 0);
    machine_.remove_slot(slot);
  }
  if (cache_.staged_slot_count() < slots)
    cache_.add_staged_slots(machine_.add_slots(0, slots - cache_.staged_slot_count(), true, Precision::native));
}

void Executor::resize(ExpertCache& cache, int slots) {
  while (cache.slot_count() > slots) {
    const SlotId slot = cache.take_free_slot();
    machine_.wait(last_readers_.of(slot));
    last_readers_.set(slot, 0);
    machine_.remove_slot(slot);
  }
  if (cache.slot_count() < slots)
    cache.add_slots(machine_.add_slots(0, slots - cache.slot_count(), false, cache.precision()));
}

void Executor::place_initially() {
  std::string note;
  const std::vector<ExpertId> targets = policy_->allocator->initial(context_, cache_.pools(), note);
  policy_->each([&](const Component& c) {
    const std::string lacks = c.uninformed(context_);
    if (!lacks.empty()) note += (note.empty() ? "" : "; ") + lacks;
  });
  policy_->each([&](const Component& c) { note = note.empty() ? c.misses(context_) : note; });
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
      evict(cache_, *oldest, ResidencyChange::evicted);
    }
    const SlotId slot = cache_.free_slot();
    start_loading(cache_, id, slot, CopyReason::placement);
    cache_.at(id).ready = copy(cache_, id, slot, CopyReason::placement, true);
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
          .used = entry.used});
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
        .used = entry.used});
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

Victims& Executor::victims_in(const ExpertCache& cache, int layer) {
  const int pool = &cache == &low_ ? 1 : 0;
  return victims_[static_cast<std::size_t>(pool * shape_.layers + (cache.pools().global ? 0 : layer))];
}

void Executor::look_for_victims(const ExpertCache& cache, int layer) {
  leaving_.clear();
  cache.for_each_resident(layer, [&](ExpertId id) {
    if (!is_demanded(id) && wanted_in_[context_.index(id)] != plans_) leaving_.push_back(id);
  });
  scores_.resize(leaving_.size());
  policy_->evictor->keep_scores(context_, leaving_, scores_);
  Victims& victims = victims_in(cache, layer);
  victims.begin(plans_);
  // Neighbours have much the same score: by strides of a prime, so that the few to keep are met early.
  const std::size_t n = leaving_.size(), stride = n > 0 ? 1'000'003 % n : 0;
  for (std::size_t i = 0, at = 0; i < n; ++i, at = at + stride < n ? at + stride : at + stride - n) {
    if (victims.leaves_out(scores_[at])) continue;
    const ExpertId id = leaving_[at];
    victims.offer({.held = hold_of(id), .score = scores_[at], .last_use = use(id).last_use_tick, .id = id});
  }
  if (policy_->evictor->evicts_demanded() && &victims == &victims_in(cache, std::max(context_.layer, 0))) {
    for (const Planned& p : plan_) offer_planned(cache, p.demand->expert);
  }
}

// Where a demand of this layer may leave as soon as it is planned.
void Executor::offer_planned(const ExpertCache& cache, ExpertId id) {
  Victims& victims = victims_in(cache, id.layer);
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
  Victims& victims = victims_in(cache, incoming.layer);
  if (!victims.begun(plans_)) look_for_victims(cache, incoming.layer);
  while (true) {
    if (victims.empty() && victims.left_some_out()) look_for_victims(cache, incoming.layer);
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
  if (cache.pool_has_room(incoming.layer)) return true;
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
  return cache.free_slot();
}

// The device starts by itself only from the main pool.
Ticket Executor::copy(const ExpertCache& cache, ExpertId id, SlotId slot, CopyReason reason, bool keep) {
  return machine_.copy_expert({.expert = id,
                               .precision = cache.precision(),
                               .slot = slot,
                               .reason = reason,
                               .publish = keep && &cache == &cache_,
                               .after = last_readers_.of(slot)});
}

}  // namespace expertscope
