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
      predictor_activation_matrix(),
      predictor_activation_path(),
      predictor_future(),
      prefetcher_none(),
      prefetcher_predicted(),
      prefetcher_staged(),
      prefetcher_first_absent(),
      prefetcher_stacked_gates(),
      prefetcher_impact(),
      prefetcher_recent_scores(),
      prefetcher_forecast(),
      evictor_lru(),
      evictor_lfu(),
      evictor_never(),
      evictor_belady(),
      evictor_fifo(),
      evictor_lifo(),
      evictor_random(),
      evictor_lfru(),
      evictor_least_stale(),
      evictor_inactive_lifo(),
      evictor_mrs(),
      evictor_activation_matrix(),
      evictor_hobbit(),
      evictor_lcu(),
      evictor_edgemoe(),
      evictor_forecast(),
      allocator_empty(),
      allocator_popular(),
      allocator_sequence_swap(),
      allocator_all(),
      allocator_by_layer(),
      allocator_last_ids(),
      placer_fetch(),
      placer_cpu(),
      placer_split(),
      placer_cpu_early(),
      placer_cost(),
      placer_fraction_split(),
      placer_batch(),
      placer_timelines(),
      gate_router(),
      gate_predicted(),
      gate_score_driven(),
      gate_sensitivity(),
      gate_static_capacity(),
      gate_pruned(),
      precision_native(),
      precision_lowered(),
      precision_score_driven(),
      precision_importance(),
      capacity_per_layer(),
      capacity_global(),
      capacity_dynamic_programming(),
      scheduler_resident_first(),
      scheduler_by_id(),
      scheduler_by_load(),
      scheduler_alike_tokens(),
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
