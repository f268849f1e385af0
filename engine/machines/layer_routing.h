// A layer's routing in the form that is recorded and planned with: one RouteRecord a token, and the distinct experts
// with the rows they serve. Shared by every machine, so that live and replay group alike.
#pragma once

#include <span>
#include <vector>

#include "engine/machine.h"
#include "engine/model/model_description.h"

namespace expertscope {

// The router's word for one token: its picks, their weights, and the gate's best probabilities. Throws RunError when a
// logit is not finite.
RouteRecord route_record(const RouterRule&, std::uint32_t step, int layer, int token, std::span<const float> logits);
// Adds the gate of the next layer ahead.
void add_gate(const RouterRule&, std::span<const float> logits, RouteRecord&);

// Groups a step's picks by expert; those of kNone16 are left out. Keeps its storage between calls.
class DemandGroups {
 public:
  // Demands by best rank, then expert; their row spans point into this object. `padded_rows` above 0: all experts of
  // the layer, those that nobody picked last and without rows.
  std::span<Demand> group(int layer, int experts, std::span<const RouteRecord> tokens, int padded_rows = 0);

 private:
  std::vector<std::uint32_t> count_, cursor_;
  std::vector<Arithmetic::ExpertRow> rows_;
  std::vector<Demand> by_expert_, demands_;
};

}  // namespace expertscope
