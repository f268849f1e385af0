#include "engine/policy/formulas.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace expertscope {

// --- where misses run

bool runs_on_cpu(double cpu_cost, double gpu_cost, bool tie_to_cpu) {
  return tie_to_cpu ? cpu_cost <= gpu_cost : cpu_cost < gpu_cost;
}

int fetched_of(int misses, double fraction) {
  constexpr std::int64_t kOne = 65536;
  const auto part = std::clamp<std::int64_t>(std::llround(fraction * static_cast<double>(kOne)), 0, kOne);
  const auto low = static_cast<std::int64_t>(misses) * part / kOne;
  const auto finish = [&](std::int64_t fetched) {
    return std::max(fetched * (kOne - part), (misses - fetched) * part);
  };
  return static_cast<int>(low < misses && finish(low + 1) < finish(low) ? low + 1 : low);
}

Schedule two_pointer_schedule(std::span<const ScheduledExpert> experts, const ScheduleCosts& costs) {
  std::vector<std::size_t> queue(experts.size());
  std::iota(queue.begin(), queue.end(), std::size_t{0});
  std::ranges::stable_sort(queue, [&](std::size_t a, std::size_t b) {
    if (experts[a].cached != experts[b].cached) return experts[a].cached;
    return experts[a].tokens > experts[b].tokens;
  });
  Schedule s{.on_cpu = std::vector<std::uint8_t>(experts.size(), 0)};
  double moved = 0;
  for (std::size_t front = 0, back = queue.size(); front < back;) {
    const ScheduledExpert& first = experts[queue[front]];
    const ScheduledExpert& last = experts[queue[back - 1]];
    double gpu = costs.gpu(first.tokens);
    if (!first.cached) gpu += std::max(0.0, moved + costs.move - s.gpu);
    const double cpu = costs.cpu(last.tokens) + (s.cpu == 0 ? costs.first_cpu : 0);
    if (s.gpu + gpu <= s.cpu + cpu) {
      if (!first.cached) moved += costs.move;
      s.gpu += gpu;
      ++front;
    } else {
      s.cpu += cpu;
      s.on_cpu[queue[--back]] = 1;
    }
  }
  return s;
}

namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

// HybriMoE's three timelines while they are filled.
class Timelines {
 public:
  Timelines(std::span<const ScheduledExpert> experts, const ScheduleCosts& costs)
      : experts_(experts), costs_(costs), ready_(experts.size(), kNever), taken_(experts.size(), 0) {
    for (std::size_t i = 0; i < experts.size(); ++i) {
      if (experts[i].cached) ready_[i] = experts[i].arrives;
    }
    schedule_.on_cpu.assign(experts.size(), 0);
  }

  Schedule fill() {
    while (true) {
      const int on_gpu = next_on_gpu(), on_cpu = next_on_cpu(), over_link = next_over_link();
      const double gpu = on_gpu < 0 ? kNever : gpu_end(on_gpu);
      const double cpu = on_cpu < 0 ? kNever : cpu_end(on_cpu);
      const double link = over_link < 0 ? kNever : link_ + costs_.move;
      if (on_gpu < 0 && on_cpu < 0 && over_link < 0) return schedule_;
      if (gpu <= cpu && gpu <= link) {
        schedule_.gpu = gpu;
        taken_[at(on_gpu)] = 1;
      } else if (cpu <= link) {
        schedule_.cpu = cpu;
        taken_[at(on_cpu)] = schedule_.on_cpu[at(on_cpu)] = 1;
      } else {
        link_ = ready_[at(over_link)] = link;
      }
    }
  }

 private:
  static std::size_t at(int i) { return static_cast<std::size_t>(i); }
  double gpu_end(int i) const { return std::max(schedule_.gpu, ready_[at(i)]) + costs_.gpu(experts_[at(i)].tokens); }
  double cpu_end(int i) const {
    return schedule_.cpu + costs_.cpu(experts_[at(i)].tokens) + (schedule_.cpu == 0 ? costs_.first_cpu : 0);
  }
  // The expert that `better` prefers among those of which `eligible` holds; -1 when there is none.
  template <typename Eligible, typename Better>
  int best(Eligible&& eligible, Better&& better) const {
    int found = -1;
    for (int i = 0; i < static_cast<int>(experts_.size()); ++i) {
      if (taken_[at(i)] == 0 && eligible(i) && (found < 0 || better(i, found))) found = i;
    }
    return found;
  }
  bool heavier(int a, int b) const { return experts_[at(a)].tokens > experts_[at(b)].tokens; }

  // What has arrived, most tokens first; else what arrives next.
  int next_on_gpu() const {
    const int arrived =
        best([&](int i) { return ready_[at(i)] <= schedule_.gpu; }, [&](int a, int b) { return heavier(a, b); });
    if (arrived >= 0) return arrived;
    return best([&](int i) { return ready_[at(i)] < kNever; },
                [&](int a, int b) { return ready_[at(a)] < ready_[at(b)]; });
  }
  int next_on_cpu() const {
    const auto lighter = [&](int a, int b) { return experts_[at(a)].tokens < experts_[at(b)].tokens; };
    const int uncached = best([&](int i) { return ready_[at(i)] == kNever; }, lighter);
    return uncached >= 0 ? uncached : best([&](int i) { return experts_[at(i)].cached; }, lighter);
  }
  int next_over_link() const {
    return best([&](int i) { return ready_[at(i)] == kNever; }, [&](int a, int b) { return heavier(a, b); });
  }

  std::span<const ScheduledExpert> experts_;
  const ScheduleCosts& costs_;
  std::vector<double> ready_;  // on the device; infinity: not there and not on its way
  std::vector<std::uint8_t> taken_;
  double link_ = 0;
  Schedule schedule_;
};

}  // namespace

Schedule timelines_schedule(std::span<const ScheduledExpert> experts, const ScheduleCosts& costs) {
  return Timelines(experts, costs).fill();
}

// --- what to keep

double lcu_priority(double high_uses, double low_uses, double bit_ratio, double tokens, bool used_in_last_pass,
                    int layer, int current, int layers) {
  const double cost = (high_uses + bit_ratio * low_uses) / std::max(tokens, 1.0);
  return used_in_last_pass ? cost + 1 / (layer_distance(layer, current, layers) + 0.1) : cost;
}

double edgemoe_printed(double frequency, int layer, int current, int layers) {
  const int distance = layer_distance(current, layer, layers);
  return distance == 0 ? -std::numeric_limits<double>::infinity() : -frequency / distance;
}

double activation_proximity(int ahead, int layers) {
  return 1 - static_cast<double>(ahead) / layers;
}

double smoothed_score(double before, double seen, bool in_top, double weight) {
  return (in_top ? weight * seen : 0) + (1 - weight) * before;
}

int smoothed_top(int top_k, int experts) {
  return std::min(2 * top_k, experts);
}

double inactive_lifo_priority(bool active, std::uint64_t last_use, std::uint64_t insertion) {
  constexpr double kAnyTick = 1e15;
  return active ? 2 * kAnyTick - static_cast<double>(insertion) : static_cast<double>(last_use);
}

double lfru_priority(double uses, std::uint64_t last, std::uint64_t now) {
  return uses / static_cast<double>(now - std::min(last, now) + 1);
}

// --- slots

namespace {

double choose(int n, int k) {
  double c = 1;
  for (int i = 0; i < k; ++i) c *= static_cast<double>(n - i) / (i + 1);
  return k < 0 || k > n ? 0 : c;
}

// Expected copies that are waited for when `picked` experts are drawn: a right prefetch hides one miss.
double expected_misses(int experts, int slots, int picked, double accuracy) {
  double sum = 0;
  for (int m = 1; m <= std::min(picked, experts - slots); ++m) {
    const double p = choose(experts - slots, m) * choose(slots, picked - m) / choose(experts, picked);
    sum += p * ((1 - accuracy) * m + accuracy * (m - 1));
  }
  return sum;
}

}  // namespace

double adapmoe_cost(int experts, int slots, std::span<const double> picked, double accuracy) {
  double cost = 0;
  for (std::size_t k = 0; k < picked.size(); ++k)
    cost += picked[k] * expected_misses(experts, slots, static_cast<int>(k) + 1, accuracy);
  return cost;
}

AdapmoeSplit adapmoe_split(int experts, int total, std::span<const std::vector<double>> picked,
                           std::span<const double> accuracy) {
  const std::size_t layers = picked.size(), columns = static_cast<std::size_t>(total) + 1;
  std::vector<double> best(columns, 0);  // dp[i - 1]: slots may stay unused
  std::vector<std::vector<int>> taken(layers, std::vector<int>(columns, 0));
  for (std::size_t l = 0; l < layers; ++l) {
    std::vector<double> cost(static_cast<std::size_t>(experts) + 1);
    for (int s = 0; s <= experts; ++s)
      cost[static_cast<std::size_t>(s)] = adapmoe_cost(experts, s, picked[l], accuracy[l]);
    std::vector<double> next(columns, 0);
    next[0] = best[0] + cost[0];
    for (std::size_t j = 1; j < columns; ++j) {
      next[j] = std::numeric_limits<double>::infinity();
      for (std::size_t k = 1; k <= std::min(j, static_cast<std::size_t>(experts)); ++k) {
        const double c = best[j - k] + cost[k];
        if (c < next[j]) next[j] = c, taken[l][j] = static_cast<int>(k);
      }
    }
    best = std::move(next);
  }
  AdapmoeSplit split{.slots = std::vector<int>(layers, 0), .cost = best[columns - 1]};
  for (std::size_t l = layers, j = columns - 1; l-- > 0;) {
    split.slots[l] = taken[l][j];
    j -= static_cast<std::size_t>(taken[l][j]);
  }
  return split;
}

std::vector<int> slots_layer_first(std::span<const int> demand, int total) {
  std::vector<int> slots;
  for (const int d : demand) {
    slots.push_back(std::min(d, total));
    total -= slots.back();
  }
  return slots;
}

std::vector<int> slots_proportional(std::span<const int> demand, int total) {
  const int sum = std::accumulate(demand.begin(), demand.end(), 0);
  if (sum <= total) return {demand.begin(), demand.end()};
  std::vector<int> slots, order(demand.size());
  std::iota(order.begin(), order.end(), 0);
  for (const int d : demand) slots.push_back(d * total / sum);
  // What rounding left goes to the largest remainder, the nearer layer at a tie.
  std::ranges::stable_sort(order, [&](int a, int b) {
    const auto remainder = [&](int i) { return demand[static_cast<std::size_t>(i)] * total % sum; };
    return remainder(a) > remainder(b);
  });
  int left = total - std::accumulate(slots.begin(), slots.end(), 0);
  for (std::size_t i = 0; left > 0; ++i, --left) ++slots[static_cast<std::size_t>(order[i])];
  return slots;
}

namespace {

int room_of(int experts, int devices, int device) {
  return experts / devices + (device < experts % devices ? 1 : 0);
}

}  // namespace

std::vector<int> balance_evenly(int experts, int devices) {
  std::vector<int> device;
  for (int d = 0; d < devices; ++d)
    device.insert(device.end(), static_cast<std::size_t>(room_of(experts, devices, d)), d);
  return device;
}

std::vector<int> balance_greedily(std::span<const double> loads, int devices) {
  const std::vector<double> apart(loads.size() * loads.size(), 0);
  return balance_apart(loads, apart, devices);
}

std::vector<int> balance_apart(std::span<const double> loads, std::span<const double> correlation, int devices) {
  const std::size_t experts = loads.size();
  std::vector<std::size_t> order(experts);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) { return loads[a] > loads[b]; });
  std::vector<int> device(experts, 0);
  std::vector<std::vector<std::size_t>> on(static_cast<std::size_t>(devices));
  for (const std::size_t a : order) {
    int best = -1;
    double least = 0;
    for (int d = 0; d < devices; ++d) {
      const std::vector<std::size_t>& there = on[static_cast<std::size_t>(d)];
      if (static_cast<int>(there.size()) == room_of(static_cast<int>(experts), devices, d)) continue;
      double cost = 0;
      for (const std::size_t m : there) cost += loads[m] + 0.5 * correlation[a * experts + m];
      if (best < 0 || cost < least) best = d, least = cost;
    }
    device[a] = best;
    on[static_cast<std::size_t>(best)].push_back(a);
  }
  return device;
}

double maximum_load(std::span<const double> loads, std::span<const int> device) {
  std::vector<double> sums(static_cast<std::size_t>(std::ranges::max(device)) + 1, 0);
  for (std::size_t e = 0; e < loads.size(); ++e) sums[static_cast<std::size_t>(device[e])] += loads[e];
  const double all = std::accumulate(loads.begin(), loads.end(), 0.0);
  return all > 0 ? std::ranges::max(sums) / all : 0;
}

double pearson(std::span<const double> a, std::span<const double> b) {
  const auto n = static_cast<double>(a.size());
  const double mean_a = std::accumulate(a.begin(), a.end(), 0.0) / n;
  const double mean_b = std::accumulate(b.begin(), b.end(), 0.0) / n;
  double ab = 0, aa = 0, bb = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    ab += (a[i] - mean_a) * (b[i] - mean_b);
    aa += (a[i] - mean_a) * (a[i] - mean_a);
    bb += (b[i] - mean_b) * (b[i] - mean_b);
  }
  return aa > 0 && bb > 0 ? ab / std::sqrt(aa * bb) : 0;
}

double static_gating_waste(int experts, double factor, int top_k) {
  return experts * factor / top_k;
}

std::array<float, kMaxPicks> scores_before(const RouteRecord& r) {
  float all = 0;
  for (std::size_t k = 0; k < r.picks; ++k) all += r.weight[k];
  const bool shares = std::abs(all - 1) < 1e-5f;  // then they stay as they are, to the bit
  std::array<float, kMaxPicks> before{};
  float sum = 0;
  for (std::size_t k = 0; k < r.picks; ++k) {
    before[k] = sum;
    sum += shares || all <= 0 ? r.weight[k] : r.weight[k] / all;
  }
  return before;
}

}  // namespace expertscope
