// The published formulas, as functions of numbers alone: components call them, tests check them against the values that
// the papers and their code give (reference: policies.md, golden values).
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "engine/observer.h"

namespace expertscope {

// Layers from `current` to `layer` in the order of execution, 0 to layers - 1.
inline int layer_distance(int layer, int current, int layers) {
  const int ahead = layer - current;
  return ahead < 0 ? ahead + layers : ahead;
}

// --- where misses run

// Fiddler: the CPU computes when that takes no longer than copying and computing on the GPU. `tie_to_cpu` is the
// paper's reading; its code leaves a tie on the GPU.
bool runs_on_cpu(double cpu_cost, double gpu_cost, bool tie_to_cpu);

// FreeToken: how many of `misses` to fetch when the link takes `fraction` of the bytes that link and CPU move
// together. In 65536ths, as its code; 0 is possible, also for misses > 0.
int fetched_of(int misses, double fraction);

struct ScheduledExpert {
  int tokens = 1;
  bool cached = false;
  double arrives = 0;  // cached: when the copy that is under way will have arrived
};
struct ScheduleCosts {
  std::function<double(int tokens)> gpu, cpu;
  double move = 0;       // one expert over the link
  double first_cpu = 0;  // more for the first expert that the CPU takes
};
struct Schedule {
  std::vector<std::uint8_t> on_cpu;  // [expert]
  double gpu = 0, cpu = 0;           // when each has done its last
  double makespan() const { return gpu > cpu ? gpu : cpu; }
};
// HybriMoE's code: the GPU takes cached experts and then the uncached with most tokens, the CPU from the other end of
// the same queue, whoever is done first.
Schedule two_pointer_schedule(std::span<const ScheduledExpert>, const ScheduleCosts&);
// HybriMoE's paper: timelines of GPU, CPU and link; what would finish earliest acts. The link brings the uncached
// expert with most tokens, the CPU takes uncached ones with few tokens first and then cached ones.
Schedule timelines_schedule(std::span<const ScheduledExpert>, const ScheduleCosts&);

// --- what is executed

// HOBBIT, Eq. 2: for each rank the sum of the weights of the better ranked ones, as shares of all. In float32.
std::array<float, kMaxPicks> scores_before(const RouteRecord&);

// --- what to keep: the smallest goes. Those that are asked of a whole pool in every layer are inline.

struct HobbitWeights {
  double recent = 0.25, frequent = 0.25, high_precision = 0.25, distance = 0.25;
};
// HOBBIT, Eq. 3, in three parts, of which the first two are the same for many experts: the weights for a sequence of so
// many tokens, what an expert has of its layer, and the priority. `last_token`, `uses` and `high_uses` count within the
// sequence.
inline HobbitWeights hobbit_per_token(HobbitWeights w, double tokens) {
  for (double* share : {&w.recent, &w.frequent, &w.high_precision}) *share /= std::max(tokens, 1.0);
  return w;
}
inline double hobbit_nearness(const HobbitWeights& w, int layer, int current, int layers) {
  return w.distance * (1 - static_cast<double>(layer_distance(layer, current, layers)) / layers);
}
inline double hobbit_priority(const HobbitWeights& per_token, double last_token, double uses, double high_uses,
                              double nearness) {
  return per_token.recent * last_token + per_token.frequent * uses + per_token.high_precision * high_uses + nearness;
}
// MoE-APEX's successor of it. `bit_ratio`: bits of the low precision for one of the high.
double lcu_priority(double high_uses, double low_uses, double bit_ratio, double tokens, bool used_in_last_pass,
                    int layer, int current, int layers);
// EdgeMoE's eviction score, whose highest leaves; the printed formula never evicts from the current layer (-infinity).
double edgemoe_printed(double frequency, int layer, int current, int layers);
inline double edgemoe_text(double frequency, int layer, int current, int layers) {
  return -frequency / (layer_distance(layer, current, layers) + 1);
}
// MoE-Infinity, Alg. 1. `probability`: the expert's share of its layer's tokens in the predicted activation matrix.
inline double activation_priority(double probability, int layer, int layers) {
  constexpr double kEpsilon = 1e-8;
  return (probability + kEpsilon) * (1 - static_cast<double>(layer) / layers);
}
// Its proximity of a layer `ahead` of the current one.
double activation_proximity(int ahead, int layers);
// HybriMoE's minus-recent score after one request: `seen` is the router's score when the expert is in the top-p.
double smoothed_score(double before, double seen, bool in_top, double weight);
int smoothed_top(int top_k, int experts);
// Expert buffering: inactive experts leave first, by last use; then the active one that was inserted last.
double inactive_lifo_priority(bool active, std::uint64_t last_use, std::uint64_t insertion);
// LFRU: uses for each tick since the last.
double lfru_priority(double uses, std::uint64_t last, std::uint64_t now);

// --- several devices (Towards MoE Deployment)

// The device of each expert of a layer; all get the same number, the first ones one more where that does not go up.
std::vector<int> balance_evenly(int experts, int devices);  // neighbours by number
// By mean load descending, each to the least loaded device with room; ties go to the lower number.
std::vector<int> balance_greedily(std::span<const double> loads, int devices);
// In the same order, each to the device with room whose experts cost least beside it: the sum over them of mean load
// and half the correlation of both loads, [a * experts + b].
std::vector<int> balance_apart(std::span<const double> loads, std::span<const double> correlation, int devices);
// The largest share of all loads on one device.
double maximum_load(std::span<const double> loads, std::span<const int> device);
// Pearson's correlation; 0 where one of both does not vary.
double pearson(std::span<const double> a, std::span<const double> b);

// Rows that static gating computes for one that is wanted: every expert has room for `factor` of a step's tokens.
double static_gating_waste(int experts, double factor, int top_k);

// --- slots

// AdapMoE: copies that a token waits for in a layer of which `slots` of `experts` are resident by chance, when it takes
// k experts with probability picked[k - 1] and a prefetch, one in flight, is right with `accuracy`.
double adapmoe_cost(int experts, int slots, std::span<const double> picked, double accuracy);
struct AdapmoeSplit {
  std::vector<int> slots;  // [layer]
  double cost = 0;
};
// The cheapest division of `total` slots over the layers. picked and accuracy: [layer].
AdapmoeSplit adapmoe_split(int experts, int total, std::span<const std::vector<double>> picked,
                           std::span<const double> accuracy);

// ExpertFlow: slots of coming layers, nearest first, from how many experts each is forecast to want.
std::vector<int> slots_layer_first(std::span<const int> demand, int total);
std::vector<int> slots_proportional(std::span<const int> demand, int total);

}  // namespace expertscope
