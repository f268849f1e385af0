// Forward passes of a model alone: every expert is at hand, no machine, no policy, no cost. What `learn` watches.
// Results do not depend on the number of threads. Not thread-safe.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "engine/machines/layer_routing.h"
#include "engine/model/arithmetic.h"
#include "engine/model/expert_versions.h"

namespace expertscope {

class ForwardPass {
 public:
  ForwardPass(const Model&, ThreadPool&, int max_step_tokens, int max_sequences);

  // Sees a layer's true routes, one a token of the step, and the gates applied to its input, before experts run. May
  // change weights; what has weight 0 then does not count.
  using Watch = std::function<void(int layer, std::span<RouteRecord>)>;
  void set_watch(Watch watch) { watch_ = std::move(watch); }

  // In which version an expert runs; none is the model's own. Both last as long as this reads them.
  using Versions = std::function<const ExpertVersions*(ExpertId)>;
  void set_versions(Versions versions) { versions_ = std::move(versions); }

  // One step. Logits of tokens that want them are at logits() until the next.
  void step(std::span<const TokenInput>);
  std::span<const float> logits(int token) const { return arithmetic_.logits(token); }

  // Forwards ids at the end of a sequence, in as many steps as it takes. `after` is called after each step with the
  // number of the first id in it and how many there are; all of their logits are wanted when `all_logits`, else only
  // those of the last id.
  void forward(int sequence, std::span<const std::int32_t> ids, bool all_logits,
               const std::function<void(std::size_t first, std::size_t count)>& after);

  void reset_sequence(int sequence) { arithmetic_.reset_sequence(sequence); }
  const Arithmetic& arithmetic() const { return arithmetic_; }

 private:
  const Model& model_;
  int max_step_tokens_;
  Arithmetic arithmetic_;
  DemandGroups groups_;
  std::vector<RouteRecord> routes_;
  Watch watch_;
  Versions versions_;
};

}  // namespace expertscope
