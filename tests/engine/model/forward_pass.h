// A forward pass with nothing around it: Arithmetic driven over a Model, every expert read from the host store.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <vector>

#include "engine/model/arithmetic.h"
#include "engine/model/model.h"
#include "engine/model/routing.h"

namespace expertscope {

class ModelSteps {
 public:
  ModelSteps(const Model& model, ThreadPool& pool, int max_step_tokens = 1024, int max_sequences = 1)
      : model_(model), arithmetic_(model, pool, max_step_tokens, max_sequences) {}

  struct Pick {
    std::vector<std::uint16_t> ids;
    float margin = 0;  // logit of the last chosen expert minus that of the best one left out
  };

  // Forwards tokens of sequence 0 as one step. All of them get logits when `all_logits`, else the last one.
  void step(std::span<const std::int32_t> ids, bool all_logits = false) {
    std::vector<TokenInput> tokens;
    const int position = arithmetic_.sequence_length(0);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      tokens.push_back({ids[i], 0, position + static_cast<int>(i), all_logits || i + 1 == ids.size()});
    }
    step(tokens);
  }

  void step(std::span<const TokenInput> tokens) {
    const ModelDescription& d = model_.description();
    picks.resize(static_cast<std::size_t>(d.layers));
    arithmetic_.begin_step(tokens);
    for (int layer = 0; layer < d.layers; ++layer) {
      arithmetic_.attention(layer);
      arithmetic_.router(layer);
      run_experts(layer, static_cast<int>(tokens.size()));
    }
    arithmetic_.head();
    last_ = static_cast<int>(tokens.size()) - 1;
  }

  std::span<const float> logits() const { return arithmetic_.logits(last_); }
  Arithmetic& arithmetic() { return arithmetic_; }

  std::vector<std::vector<Pick>> picks;  // [layer][token], over all steps

 private:
  void run_experts(int layer, int tokens) {
    const RouterRule& rule = model_.description().router;
    const auto top_k = static_cast<std::size_t>(rule.top_k);
    std::vector<float> probabilities(static_cast<std::size_t>(rule.experts));
    std::vector<std::vector<float>> weights(static_cast<std::size_t>(tokens), std::vector<float>(top_k));
    std::map<std::uint16_t, std::vector<Arithmetic::ExpertRow>> groups;
    for (int t = 0; t < tokens; ++t) {
      const std::span<const float> router_logits = arithmetic_.router_logits(t);
      Pick pick{std::vector<std::uint16_t>(top_k), 0};
      route(rule, router_logits, pick.ids, weights[static_cast<std::size_t>(t)], probabilities);
      std::vector<float> sorted(router_logits.begin(), router_logits.end());
      std::sort(sorted.rbegin(), sorted.rend());
      if (top_k < sorted.size()) pick.margin = sorted[top_k - 1] - sorted[top_k];
      for (std::size_t rank = 0; rank < top_k; ++rank) groups[pick.ids[rank]].push_back({t, static_cast<int>(rank)});
      picks[static_cast<std::size_t>(layer)].push_back(std::move(pick));
    }
    for (const auto& [expert, rows] : groups) {
      arithmetic_.expert(layer, model_.expert_blob({static_cast<std::uint16_t>(layer), expert}), rows);
    }
    for (int t = 0; t < tokens; ++t) arithmetic_.combine(layer, t, weights[static_cast<std::size_t>(t)]);
  }

  const Model& model_;
  Arithmetic arithmetic_;
  int last_ = -1;
};

}  // namespace expertscope
