#include "engine/policy/registry.h"

#include "engine/policy/components/all.h"

namespace expertscope {
namespace {

const std::vector<ComponentEntry>& entries() {
  using namespace components;
  static const std::vector<ComponentEntry> all = {
      predictor_none(),
      predictor_gate_ahead(),
      predictor_routing_path(),
      prefetcher_none(),
      prefetcher_predicted(),
      evictor_lru(),
      evictor_lfu(),
      evictor_never(),
      evictor_belady(),
      allocator_empty(),
      allocator_popular(),
      allocator_all(),
      placer_fetch(),
      placer_cpu(),
      placer_split(),
      gate_router(),
      precision_native(),
      capacity_per_layer(),
      capacity_global(),
      scheduler_resident_first(),
  };
  return all;
}

}  // namespace

std::string_view name(ComponentKind kind) {
  static constexpr std::array<std::string_view, kComponentKinds> kNames = {
      "predictor", "prefetcher", "evictor", "allocator", "placer", "gate", "precision", "capacity", "scheduler"};
  return kNames[static_cast<std::size_t>(kind)];
}

std::span<const ComponentDecl> component_decls() {
  static const std::vector<ComponentDecl> decls = [] {
    std::vector<ComponentDecl> out;
    for (const ComponentEntry& e : entries()) out.push_back(e.decl);
    return out;
  }();
  return decls;
}

const ComponentEntry* find_entry(ComponentKind kind, std::string_view name) {
  for (const ComponentEntry& e : entries()) {
    if (e.decl.kind == kind && e.decl.name == name) return &e;
  }
  return nullptr;
}

const ComponentDecl* find_component(ComponentKind kind, std::string_view name) {
  const ComponentEntry* entry = find_entry(kind, name);
  return entry != nullptr ? &entry->decl : nullptr;
}

}  // namespace expertscope
