#include "engine/policy/policy.h"

#include <algorithm>

#include <fmt/format.h>

#include "engine/assert.h"
#include "engine/error.h"

namespace expertscope {
namespace {

template <typename T>
std::unique_ptr<T> make(const PolicySpec& spec, ComponentKind kind) {
  const ComponentEntry* entry = find_entry(kind, spec.components[static_cast<std::size_t>(kind)]);
  ES_ASSERT(entry != nullptr, "a spec names a component that is not registered");
  std::unique_ptr<Component> component = entry->make(Parameters(spec, kind));
  auto* typed = dynamic_cast<T*>(component.get());
  ES_ASSERT(typed != nullptr, "a component is registered under the wrong kind");
  component.release();
  return std::unique_ptr<T>(typed);
}

// Of the same name and with the same parameters.
bool is_written_alike(const PolicySpec& a, const PolicySpec& b, ComponentKind kind) {
  const auto k = static_cast<std::size_t>(kind);
  if (a.components[k] != b.components[k]) return false;
  const std::vector<ParameterDecl>& parameters = find_component(kind, a.components[k])->parameters;
  return std::ranges::all_of(
      parameters, [&](const ParameterDecl& p) { return a.parameter(kind, p.name) == b.parameter(kind, p.name); });
}

}  // namespace

Policy::Policy(const PolicySpec& s)
    : spec(s),
      predictor(make<Predictor>(s, ComponentKind::predictor)),
      prefetcher(make<Prefetcher>(s, ComponentKind::prefetcher)),
      evictor(make<Evictor>(s, ComponentKind::evictor)),
      allocator(make<Allocator>(s, ComponentKind::allocator)),
      placer(make<Placer>(s, ComponentKind::placer)),
      gate(make<Gate>(s, ComponentKind::gate)),
      precision(make<PrecisionChooser>(s, ComponentKind::precision)),
      capacity(make<CapacitySplitter>(s, ComponentKind::capacity)),
      scheduler(make<Scheduler>(s, ComponentKind::scheduler)) {}

void Policy::take_over(Policy& before, PolicyState& state) {
  const auto take = [&](ComponentKind kind, auto& mine, auto& theirs) {
    const bool stays = is_written_alike(spec, before.spec, kind);
    if (stays) mine = std::move(theirs);
    return stays;
  };
  if (!take(ComponentKind::predictor, predictor, before.predictor)) state.forecast.clear();
  if (!take(ComponentKind::prefetcher, prefetcher, before.prefetcher)) std::ranges::fill(state.held_until, 0U);
  if (!take(ComponentKind::evictor, evictor, before.evictor)) state.router_score.clear();
  take(ComponentKind::allocator, allocator, before.allocator);
  take(ComponentKind::placer, placer, before.placer);
  take(ComponentKind::gate, gate, before.gate);
  take(ComponentKind::precision, precision, before.precision);
  take(ComponentKind::capacity, capacity, before.capacity);
  take(ComponentKind::scheduler, scheduler, before.scheduler);
}

void check_fits(const PolicySpec& spec, int slots, int all_experts) {
  const Policy policy(spec);
  if (policy.allocator->needs_all_resident() && slots < all_experts) {
    throw InputError(fmt::format(
        "policy {}: keeps all {} experts on the GPU and needs cache ratio 1, the cache has {} slots: raise the "
        "cache ratio or choose another policy",
        to_string(spec), all_experts, slots));
  }
}

}  // namespace expertscope
