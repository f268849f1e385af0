#include "engine/policy/policy.h"

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
