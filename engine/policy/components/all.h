// Every component's entry; registry.cpp lists them. A new component adds its line here and there.
#pragma once

#include "engine/policy/component.h"

namespace expertscope::components {

ComponentEntry predictor_none();
ComponentEntry predictor_gate_ahead();
ComponentEntry predictor_routing_path();
ComponentEntry predictor_activation_matrix();
ComponentEntry predictor_activation_path();
ComponentEntry predictor_future();
ComponentEntry prefetcher_none();
ComponentEntry prefetcher_predicted();
ComponentEntry prefetcher_staged();
ComponentEntry prefetcher_first_absent();
ComponentEntry prefetcher_stacked_gates();
ComponentEntry prefetcher_impact();
ComponentEntry prefetcher_recent_scores();
ComponentEntry prefetcher_forecast();
ComponentEntry evictor_lru();
ComponentEntry evictor_lfu();
ComponentEntry evictor_never();
ComponentEntry evictor_belady();
ComponentEntry evictor_fifo();
ComponentEntry evictor_lifo();
ComponentEntry evictor_random();
ComponentEntry evictor_lfru();
ComponentEntry evictor_least_stale();
ComponentEntry evictor_inactive_lifo();
ComponentEntry evictor_mrs();
ComponentEntry evictor_activation_matrix();
ComponentEntry evictor_hobbit();
ComponentEntry evictor_lcu();
ComponentEntry evictor_edgemoe();
ComponentEntry evictor_forecast();
ComponentEntry allocator_empty();
ComponentEntry allocator_popular();
ComponentEntry allocator_sequence_swap();
ComponentEntry allocator_all();
ComponentEntry allocator_by_layer();
ComponentEntry allocator_last_ids();
ComponentEntry placer_fetch();
ComponentEntry placer_cpu();
ComponentEntry placer_split();
ComponentEntry placer_cpu_early();
ComponentEntry placer_cost();
ComponentEntry placer_fraction_split();
ComponentEntry placer_batch();
ComponentEntry placer_timelines();
ComponentEntry gate_router();
ComponentEntry gate_predicted();
ComponentEntry gate_score_driven();
ComponentEntry gate_sensitivity();
ComponentEntry gate_static_capacity();
ComponentEntry gate_pruned();
ComponentEntry precision_native();
ComponentEntry precision_lowered();
ComponentEntry precision_score_driven();
ComponentEntry precision_importance();
ComponentEntry capacity_per_layer();
ComponentEntry capacity_global();
ComponentEntry capacity_dynamic_programming();
ComponentEntry scheduler_resident_first();
ComponentEntry scheduler_by_id();
ComponentEntry scheduler_by_load();
ComponentEntry scheduler_alike_tokens();

}  // namespace expertscope::components
