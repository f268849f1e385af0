// Which sequences share a step, so that their tokens want the same experts (ExpertFlow's token scheduler; reference:
// policies.md B2). Deterministic.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace expertscope {

// What one token is forecast to want: bit layer * experts + expert. All of one call have the same length.
using RouteBits = std::vector<std::uint64_t>;

// The experts of each layer that a forecast holds likeliest, as many as a token is routed to; none that it rules out.
RouteBits likeliest_routes(std::span<const float> forecast, int layers, int experts, int top_k);

// Sum over layers of the distinct experts of batch 0, plus those of batch 1.
int distinct_experts(std::span<const RouteBits> routes, std::span<const int> batch);

// Divides into two batches of the sizes that `given` has (its entries are 0 and 1), by K-means style clustering on
// Hamming similarity: each joins the nearer of two members, the ones most alike to their own batch, as far as there is
// room; at most so many rounds. Never more distinct experts than `given`, which is kept where nothing is better.
std::vector<int> alike_batches(std::span<const RouteBits> routes, std::span<const int> given, int most_rounds);

}  // namespace expertscope
