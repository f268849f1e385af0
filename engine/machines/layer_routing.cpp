#include "engine/machines/layer_routing.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "engine/model/routing.h"

namespace expertscope {

namespace {

// The best entries of a gate's probabilities, best first, ties to the lower expert.
void store_gate(std::span<const float> probabilities, std::array<GateEntry, kGateEntries>& out) {
  std::array<std::uint16_t, kGateEntries> best;
  const auto kept = std::min<std::size_t>(kGateEntries, probabilities.size());
  select_best(probabilities, {best.data(), kept});
  out.fill({});
  for (std::size_t i = 0; i < kept; ++i) {
    const float p = std::clamp(probabilities[best[i]], 0.0F, 1.0F);
    out[i] = {.expert = best[i], .prob_q16 = static_cast<std::uint16_t>(std::lround(p * 65535.0F))};
  }
}

}  // namespace

RouteRecord route_record(const RouterRule& rule, std::uint32_t step, int layer, int token,
                         std::span<const float> logits) {
  std::array<float, kMaxExperts> storage;
  const std::span<float> probabilities(storage.data(), logits.size());
  RouteRecord record;
  record.step = step;
  record.layer = static_cast<std::uint16_t>(layer);
  record.token = static_cast<std::uint16_t>(token);
  record.picks = static_cast<std::uint8_t>(rule.top_k);
  record.gate_entries = static_cast<std::uint8_t>(std::min(rule.experts, kGateEntries));
  route(rule, logits, {record.expert.data(), record.picks}, {record.weight.data(), record.picks}, probabilities);
  store_gate(probabilities, record.gate[0]);
  record.gates = 1;
  return record;
}

void add_gate(const RouterRule& rule, std::span<const float> logits, RouteRecord& record) {
  std::array<float, kMaxExperts> storage;
  const std::span<float> probabilities(storage.data(), logits.size());
  gate_probabilities(rule, logits, probabilities);
  store_gate(probabilities, record.gate[record.gates]);
  ++record.gates;
}

std::span<Demand> DemandGroups::group(int layer, int experts, std::span<const RouteRecord> tokens, int padded_rows) {
  count_.assign(static_cast<std::size_t>(experts) + 1, 0);
  std::size_t picks = 0;
  for (const RouteRecord& r : tokens) {
    for (std::size_t k = 0; k < r.picks; ++k) {
      if (r.expert[k] == kNone16) continue;
      ++count_[r.expert[k] + 1u];
      ++picks;
    }
  }
  std::partial_sum(count_.begin(), count_.end(), count_.begin());
  cursor_.assign(count_.begin(), count_.end() - 1);
  rows_.resize(picks);
  by_expert_.assign(static_cast<std::size_t>(experts), Demand{});
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    const RouteRecord& r = tokens[t];
    for (std::size_t k = 0; k < r.picks; ++k) {
      const std::uint16_t e = r.expert[k];
      if (e == kNone16) continue;
      Demand& d = by_expert_[e];
      const bool first = cursor_[e] == count_[e];
      d.rank = static_cast<std::uint16_t>(first ? k : std::min<std::size_t>(d.rank, k));
      d.weight = first ? r.weight[k] : std::max(d.weight, r.weight[k]);
      rows_[cursor_[e]++] = {.token = static_cast<std::int32_t>(t), .rank = static_cast<std::int32_t>(k)};
    }
  }
  demands_.clear();
  for (std::size_t e = 0; e < by_expert_.size(); ++e) {
    const std::uint32_t rows = count_[e + 1] - count_[e];
    if (rows == 0 && padded_rows == 0) continue;
    Demand& d = by_expert_[e];
    if (rows == 0) d.rank = kMaxPicks;
    d.padded_rows = static_cast<std::uint16_t>(padded_rows);
    d.expert = {.layer = static_cast<std::uint16_t>(layer), .expert = static_cast<std::uint16_t>(e)};
    d.rows = {rows_.data() + count_[e], rows};
    demands_.push_back(d);
  }
  std::stable_sort(demands_.begin(), demands_.end(), [](const Demand& a, const Demand& b) { return a.rank < b.rank; });
  return demands_;
}

}  // namespace expertscope
