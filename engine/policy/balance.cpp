#include "engine/policy/balance.h"

#include <algorithm>

#include "engine/policy/component.h"
#include "engine/policy/formulas.h"

namespace expertscope {
namespace {

bool knows_correlation(const PolicyContext& ctx) {
  return ctx.prior != nullptr && ctx.prior->activations.size() > 1;
}

// [a * experts + b]: how the shares of a layer's picks that two experts take go together, from text to text.
std::vector<double> correlations(const PolicyContext& ctx, int layer) {
  const auto experts = static_cast<std::size_t>(ctx.experts);
  std::vector<std::vector<double>> shares(experts);  // by text
  for (const ActivationMatrix& text : ctx.prior->activations) {
    std::vector<double> picks;
    double all = 0;
    for (std::size_t e = 0; e < experts; ++e) {
      const std::size_t i = static_cast<std::size_t>(layer) * experts + e;
      picks.push_back(text.prefill[i] + text.decode[i]);
      all += picks.back();
    }
    for (std::size_t e = 0; e < experts; ++e) shares[e].push_back(all > 0 ? picks[e] / all : 0);
  }
  std::vector<double> found;
  for (const std::vector<double>& a : shares) {
    for (const std::vector<double>& b : shares) found.push_back(pearson(a, b));
  }
  return found;
}

std::vector<int> homes_of_layer(Balance balance, const PolicyContext& ctx, int layer) {
  if (balance == Balance::even || ctx.prior == nullptr) return balance_evenly(ctx.experts, ctx.devices);
  const std::vector<double>& loads = ctx.prior->popularity[static_cast<std::size_t>(layer)];
  if (balance == Balance::greedy || !knows_correlation(ctx)) return balance_greedily(loads, ctx.devices);
  return balance_apart(loads, correlations(ctx, layer), ctx.devices);
}

}  // namespace

CapacitySplitter::CapacitySplitter(const Parameters& p) : balance_(static_cast<Balance>(p.integer("balance"))) {}

std::string CapacitySplitter::misses(const PolicyContext& ctx) const {
  if (ctx.devices == 1 || balance_ == Balance::even) return "";
  if (ctx.prior == nullptr) return "no prior says how busy experts are: neighbours by number share a GPU; give --prior";
  if (balance_ == Balance::anti_correlation && !knows_correlation(ctx))
    return "the prior does not know which experts are busy together: they are divided by their mean loads alone";
  return "";
}

std::vector<std::uint8_t> homes_of(Balance balance, const PolicyContext& ctx) {
  std::vector<std::uint8_t> homes;
  for (int l = 0; l < ctx.layers; ++l) {
    for (const int device : homes_of_layer(balance, ctx, l)) homes.push_back(static_cast<std::uint8_t>(device));
  }
  return homes;
}

std::vector<Pools> divide(const Pools& pools, const std::vector<std::uint8_t>& homes, const PolicyContext& ctx) {
  const auto devices = static_cast<std::size_t>(ctx.devices);
  std::vector<Pools> parts(devices, {.global = pools.global, .slots = std::vector<int>(pools.slots.size(), 0)});
  std::size_t turn = 0;  // whose it is when several would lack as much
  for (std::size_t pool = 0; pool < pools.slots.size(); ++pool) {
    std::vector<int> without(devices, 0);  // experts of the pool that have no slot on their GPU yet
    for (std::size_t i = 0; i < homes.size(); ++i) {
      if (pools.global || i / static_cast<std::size_t>(ctx.experts) == pool) ++without[homes[i]];
    }
    for (int slot = 0; slot < pools.slots[pool]; ++slot) {
      std::size_t most = turn;
      for (std::size_t n = 1; n < devices; ++n) {
        const std::size_t device = (turn + n) % devices;
        if (without[device] > without[most]) most = device;
      }
      --without[most];
      ++parts[most].slots[pool];
      turn = (most + 1) % devices;
    }
  }
  return parts;
}

}  // namespace expertscope
