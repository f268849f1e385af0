// A policy ready to decide: the nine components of a spec. What is worth remembering across policies lives in
// PolicyContext::use; what a component learned by itself stays as long as the component does.
#pragma once

#include <algorithm>
#include <memory>

#include "engine/policy/component.h"

namespace expertscope {

struct Policy {
  explicit Policy(const PolicySpec& spec);

  // Components that are written alike in both specs go on with what they have learned; `before` is left without them.
  // What others have told is forgotten.
  void take_over(Policy& before, PolicyState&);

  PolicySpec spec;
  std::unique_ptr<Predictor> predictor;
  std::unique_ptr<Prefetcher> prefetcher;
  std::unique_ptr<Evictor> evictor;
  std::unique_ptr<Allocator> allocator;
  std::unique_ptr<Placer> placer;
  std::unique_ptr<Gate> gate;
  std::unique_ptr<PrecisionChooser> precision;
  std::unique_ptr<CapacitySplitter> capacity;
  std::unique_ptr<Scheduler> scheduler;

  // Gates of coming layers that its decisions read.
  int lookahead() const { return std::max(gate->lookahead(), predictor->uses_gates() ? prefetcher->depth() : 0); }
  bool exact() const { return gate->keeps_router() && precision->exact(); }
  bool needs_future() const { return evictor->needs_future() || predictor->needs_future(); }
  // The device may start resident experts before the host has seen the route.
  bool starts_residents(Phase phase) const {
    return exact() && !placer->moves_residents() && !allocator->reallocates(phase);
  }
  template <typename Call>
  void each(Call&& call) {
    for (Component* c :
         std::initializer_list<Component*>{predictor.get(), prefetcher.get(), evictor.get(), allocator.get(),
                                           placer.get(), gate.get(), precision.get(), capacity.get(), scheduler.get()})
      call(*c);
  }
};

// InputError when the policy cannot work with so many slots of so many experts ("resident needs cache ratio 1").
void check_fits(const PolicySpec&, int slots, int all_experts);

}  // namespace expertscope
