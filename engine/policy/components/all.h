// Every component's entry; registry.cpp lists them. A new component adds its line here and there.
#pragma once

#include "engine/policy/component.h"

namespace expertscope::components {

ComponentEntry predictor_none();
ComponentEntry predictor_gate_ahead();
ComponentEntry predictor_routing_path();
ComponentEntry prefetcher_none();
ComponentEntry prefetcher_predicted();
ComponentEntry evictor_lru();
ComponentEntry evictor_lfu();
ComponentEntry evictor_never();
ComponentEntry evictor_belady();
ComponentEntry allocator_empty();
ComponentEntry allocator_popular();
ComponentEntry allocator_all();
ComponentEntry placer_fetch();
ComponentEntry placer_cpu();
ComponentEntry placer_split();
ComponentEntry gate_router();
ComponentEntry precision_native();
ComponentEntry capacity_per_layer();
ComponentEntry capacity_global();
ComponentEntry scheduler_resident_first();

}  // namespace expertscope::components
