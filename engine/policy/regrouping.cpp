#include "engine/policy/regrouping.h"

#include <algorithm>
#include <array>
#include <bit>
#include <numeric>

namespace expertscope {
namespace {

int distance(const RouteBits& a, const RouteBits& b) {
  int bits = 0;
  for (std::size_t w = 0; w < a.size(); ++w) bits += std::popcount(a[w] ^ b[w]);
  return bits;
}

// Distances between all pairs, [n * i + j].
std::vector<int> all_distances(std::span<const RouteBits> routes) {
  const std::size_t n = routes.size();
  std::vector<int> d(n * n, 0);
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < i; ++j) d[n * i + j] = d[n * j + i] = distance(routes[i], routes[j]);
  return d;
}

using Centroids = std::array<std::size_t, 2>;

// The two least alike; ties: the first.
Centroids farthest_pair(const std::vector<int>& distances, std::size_t n) {
  Centroids best = {0, 1};
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = i + 1; j < n; ++j)
      if (distances[n * i + j] > distances[n * best[0] + best[1]]) best = {i, j};
  return best;
}

// Each to the nearer centroid while it has room; who prefers one most chooses first.
std::vector<int> assign(const std::vector<int>& distances, const Centroids& centroids,
                        std::array<std::size_t, 2> room) {
  const std::size_t n = room[0] + room[1];
  const auto preference = [&](std::size_t i) {
    return distances[n * i + centroids[0]] - distances[n * i + centroids[1]];
  };
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(
      order, [&](std::size_t a, std::size_t b) { return std::abs(preference(a)) > std::abs(preference(b)); });
  std::vector<int> batch(n);
  for (const std::size_t i : order) {
    std::size_t to = preference(i) <= 0 ? 0 : 1;
    if (room[to] == 0) to = 1 - to;
    --room[to];
    batch[i] = static_cast<int>(to);
  }
  return batch;
}

// Of each batch, the member most alike to the others.
Centroids centroids_of(const std::vector<int>& distances, std::span<const int> batch) {
  const std::size_t n = batch.size();
  Centroids best{};
  for (int b = 0; b < 2; ++b) {
    long least = -1;
    for (std::size_t i = 0; i < n; ++i) {
      if (batch[i] != b) continue;
      long sum = 0;
      for (std::size_t j = 0; j < n; ++j) sum += batch[j] == b ? distances[n * i + j] : 0;
      if (least < 0 || sum < least) least = sum, best[static_cast<std::size_t>(b)] = i;
    }
  }
  return best;
}

}  // namespace

RouteBits likeliest_routes(std::span<const float> forecast, int layers, int experts, int top_k) {
  const auto width = static_cast<std::size_t>(experts);
  RouteBits bits((static_cast<std::size_t>(layers) * width + 63) / 64, 0);
  std::vector<std::size_t> order(width);
  for (std::size_t first = 0; first < static_cast<std::size_t>(layers) * width; first += width) {
    std::iota(order.begin(), order.end(), first);
    std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) { return forecast[a] > forecast[b]; });
    for (std::size_t k = 0; k < std::min(width, static_cast<std::size_t>(top_k)); ++k)
      if (forecast[order[k]] > 0) bits[order[k] / 64] |= std::uint64_t{1} << order[k] % 64;
  }
  return bits;
}

int distinct_experts(std::span<const RouteBits> routes, std::span<const int> batch) {
  int distinct = 0;
  for (int b = 0; b < 2; ++b) {
    RouteBits wanted(routes.empty() ? 0 : routes[0].size(), 0);
    for (std::size_t i = 0; i < routes.size(); ++i)
      for (std::size_t w = 0; w < wanted.size() && batch[i] == b; ++w) wanted[w] |= routes[i][w];
    for (const std::uint64_t word : wanted) distinct += std::popcount(word);
  }
  return distinct;
}

std::vector<int> alike_batches(std::span<const RouteBits> routes, std::span<const int> given, int most_rounds) {
  std::vector<int> best(given.begin(), given.end());
  const auto in_first = static_cast<std::size_t>(std::ranges::count(given, 0));
  if (in_first == 0 || in_first == given.size() || given.size() < 3) return best;
  int fewest = distinct_experts(routes, best);
  const std::vector<int> distances = all_distances(routes);
  Centroids centroids = farthest_pair(distances, given.size());
  std::vector<int> before;
  for (int round = 0; round < most_rounds; ++round) {
    const std::vector<int> batch = assign(distances, centroids, {in_first, given.size() - in_first});
    if (batch == before) break;
    if (const int distinct = distinct_experts(routes, batch); distinct < fewest) fewest = distinct, best = batch;
    centroids = centroids_of(distances, batch);
    before = batch;
  }
  return best;
}

}  // namespace expertscope
