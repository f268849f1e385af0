#include "engine/learn/forward_pass.h"

#include <algorithm>

namespace expertscope {

ForwardPass::ForwardPass(const Model& model, ThreadPool& pool, int max_step_tokens, int max_sequences)
    : model_(model), max_step_tokens_(max_step_tokens), arithmetic_(model, pool, max_step_tokens, max_sequences) {}

void ForwardPass::step(std::span<const TokenInput> tokens) {
  const ModelDescription& d = model_.description();
  const auto count = static_cast<int>(tokens.size());
  arithmetic_.begin_step(tokens);
  for (int layer = 0; layer < d.layers; ++layer) {
    arithmetic_.attention(layer);
    arithmetic_.router(layer);
    routes_.clear();
    for (int t = 0; t < count; ++t)
      routes_.push_back(route_record(d.router, 0, layer, t, arithmetic_.router_logits(t)));
    if (watch_) watch_(layer, routes_);
    for (const Demand& demand : groups_.group(layer, d.router.experts, routes_)) {
      const ExpertVersions* versions = versions_ ? versions_(demand.expert) : nullptr;
      versions == nullptr
          ? arithmetic_.expert(layer, model_.expert_blob(demand.expert), demand.rows)
          : arithmetic_.expert(layer, versions->layout(layer), versions->blob(demand.expert), demand.rows);
    }
    for (int t = 0; t < count; ++t) {
      const RouteRecord& r = routes_[static_cast<std::size_t>(t)];
      arithmetic_.combine(layer, t, {r.weight.data(), r.picks});
    }
  }
  if (std::any_of(tokens.begin(), tokens.end(), [](const TokenInput& t) { return t.wants_logits; })) arithmetic_.head();
}

void ForwardPass::forward(int sequence, std::span<const std::int32_t> ids, bool all_logits,
                          const std::function<void(std::size_t, std::size_t)>& after) {
  std::vector<TokenInput> tokens;
  for (std::size_t first = 0; first < ids.size(); first += tokens.size()) {
    tokens.clear();
    const std::size_t end = std::min(ids.size(), first + static_cast<std::size_t>(max_step_tokens_));
    const int position = arithmetic_.sequence_length(sequence);
    for (std::size_t i = first; i < end; ++i) {
      tokens.push_back({.id = ids[i],
                        .sequence = sequence,
                        .position = position + static_cast<int>(i - first),
                        .wants_logits = all_logits || i + 1 == ids.size()});
    }
    step(tokens);
    after(first, tokens.size());
  }
}

}  // namespace expertscope
