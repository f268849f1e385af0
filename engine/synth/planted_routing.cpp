#include "engine/synth/planted_routing.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <string>

#include "engine/assert.h"
#include "engine/error.h"
#include "engine/model/elementary.h"
#include "engine/synth/random.h"

namespace expertscope {
namespace {

// Parts of the random streams; weights use others (synth_model.cpp).
enum Part : std::uint64_t { kSigns = 1, kTokenNoise, kRouterNoise, kPermutation, kStream };

// Share of an embedding's energy that is the token's own noise, the rest is its cluster's direction.
constexpr double kNoiseShare = 0.5;
// Standard deviation that the noise gives to a logit: that of a Gumbel variable, so that an expert is among the best
// about as often as the Zipf law says (Gumbel top-k).
constexpr double kLogitNoise = 1.2825498;

constexpr std::string_view kNames[] = {"uniform", "zipf", "bursty", "drift"};

// Uniform in (-1, 1), four of each 64 bits.
void uniform_noise(const CounterRandom& random, std::span<float> out) {
  for (std::size_t i = 0; i < out.size(); i += 4) {
    const std::uint64_t bits = random.at(i / 4);
    for (std::size_t k = 0; k < 4; ++k)
      out[i + k] = (static_cast<float>(static_cast<std::uint16_t>(bits >> (16 * k))) - 32767.5F) * (1 / 32768.0F);
  }
}

}  // namespace

std::string_view name(SynthRouting routing) {
  return kNames[static_cast<std::size_t>(routing)];
}

SynthRouting find_synth_routing(std::string_view wanted) {
  std::string known;
  for (std::size_t i = 0; i < std::size(kNames); ++i) {
    if (kNames[i] == wanted) return static_cast<SynthRouting>(i);
    known += (known.empty() ? "" : ", ") + std::string(kNames[i]);
  }
  throw InputError("--routing: '" + std::string(wanted) + "' is not known: choose one of " + known);
}

PlantedRouting::PlantedRouting(const SynthShape& shape, SynthRouting routing, std::uint64_t seed)
    : shape_(shape), routing_(routing), seed_(seed), signs_(static_cast<std::size_t>(shape.width)) {
  ES_ASSERT(std::has_single_bit(static_cast<unsigned>(shape.clusters)) && shape.width % shape.clusters == 0 &&
                shape.clusters >= 4,
            "clusters must be a power of two that divides the width");
  ES_ASSERT(shape.vocab >= kSynthOrdinary + shape.clusters, "every cluster needs an ordinary token");
  const CounterRandom random(seed, kSigns);
  for (std::size_t i = 0; i < signs_.size(); ++i) signs_[i] = (random.at(i) & 1) != 0 ? 1.0F : -1.0F;
}

// Walsh functions: any two of them differ in exactly half of each period.
float PlantedRouting::sign(std::size_t i, int cluster) const {
  const unsigned common = static_cast<unsigned>(cluster) & static_cast<unsigned>(i);
  return std::popcount(common) % 2 != 0 ? -signs_[i] : signs_[i];
}

// The clusters' directions span all vectors that, apart from the coordinates' signs, repeat after `clusters` values.
void PlantedRouting::remove_clusters(std::span<float> v) const {
  const auto period = static_cast<std::size_t>(shape_.clusters);
  std::vector<float> mean(period, 0);
  for (std::size_t i = 0; i < v.size(); i += period)
    for (std::size_t k = 0; k < period; ++k) mean[k] += signs_[i + k] * v[i + k];
  for (float& m : mean) m *= static_cast<float>(period) / static_cast<float>(v.size());
  for (std::size_t i = 0; i < v.size(); i += period)
    for (std::size_t k = 0; k < period; ++k) v[i + k] -= signs_[i + k] * mean[k];
}

void PlantedRouting::normalise(std::span<float> v, double norm) const {
  float lanes[8] = {};
  for (std::size_t i = 0; i < v.size(); i += 8)
    for (std::size_t k = 0; k < 8; ++k) lanes[k] += v[i + k] * v[i + k];
  double sum = 0;
  for (const float lane : lanes) sum += static_cast<double>(lane);
  const auto factor = static_cast<float>(norm / std::sqrt(sum));
  for (float& x : v) x *= factor;
}

void PlantedRouting::embedding(std::int32_t token, std::span<float> out) const {
  const double width = shape_.width;
  uniform_noise(CounterRandom(seed_, kTokenNoise, static_cast<std::uint64_t>(token)), out);
  remove_clusters(out);
  normalise(out, kEmbeddingRms * std::sqrt(kNoiseShare * width));
  const auto along = static_cast<float>(kEmbeddingRms * std::sqrt(1 - kNoiseShare));
  for (std::size_t i = 0; i < out.size(); ++i) out[i] += along * sign(i, cluster_of(token));
}

// What a cluster adds to the experts' logits: the logarithm of a Zipf law, mean 0.
std::vector<float> PlantedRouting::preferences(int layer, int cluster) const {
  const auto experts = static_cast<std::size_t>(shape_.experts);
  std::vector<float> wanted(experts, 0);
  if (routing_ == SynthRouting::uniform) return wanted;
  const int shared = routing_ == SynthRouting::zipf ? 0 : cluster;
  const CounterRandom random(seed_, kPermutation, static_cast<std::uint64_t>(layer * shape_.clusters + shared));
  std::vector<std::size_t> order(experts);
  for (std::size_t i = 0; i < experts; ++i) order[i] = i;
  for (std::size_t i = experts - 1; i > 0; --i)
    std::swap(order[i], order[random.below(static_cast<std::uint32_t>(i + 1), i)]);
  double mean = 0;
  for (std::size_t rank = 0; rank < experts; ++rank)
    mean -= kZipfExponent * log_f64(static_cast<double>(rank + 1)) / static_cast<double>(experts);
  for (std::size_t rank = 0; rank < experts; ++rank)
    wanted[order[rank]] = static_cast<float>(-kZipfExponent * log_f64(static_cast<double>(rank + 1)) - mean);
  return wanted;
}

void PlantedRouting::router(int layer, std::span<float> out) const {
  const auto width = static_cast<std::size_t>(shape_.width), experts = static_cast<std::size_t>(shape_.experts);
  const auto clusters = static_cast<std::size_t>(shape_.clusters);
  // The norm makes the stream's root mean square 1: along its cluster's signs a token then has sqrt(1 - share).
  const double along = 1 / (static_cast<double>(width) * std::sqrt(1 - kNoiseShare));
  std::vector<std::vector<float>> wanted;
  for (int c = 0; c < shape_.clusters; ++c) wanted.push_back(preferences(layer, c));
  std::vector<float> period(clusters);
  for (std::size_t e = 0; e < experts; ++e) {
    const std::span<float> row = out.subspan(e * width, width);
    uniform_noise(CounterRandom(seed_, kRouterNoise, static_cast<std::uint64_t>(layer) * experts + e), row);
    remove_clusters(row);
    normalise(row, kLogitNoise / std::sqrt(kNoiseShare));
    for (std::size_t k = 0; k < clusters; ++k) {
      double sum = 0;
      for (std::size_t c = 0; c < clusters; ++c)
        sum += (std::popcount(c & k) % 2 != 0 ? -1.0 : 1.0) * static_cast<double>(wanted[c][e]);
      period[k] = static_cast<float>(sum * along);
    }
    for (std::size_t i = 0; i < width; ++i) row[i] += signs_[i] * period[i % clusters];
  }
}

std::vector<std::int32_t> PlantedRouting::stream(std::int64_t tokens) const {
  const CounterRandom random(seed_, kStream);
  const auto clusters = static_cast<std::uint32_t>(shape_.clusters);
  const auto ordinary = static_cast<std::uint32_t>(shape_.vocab - kSynthOrdinary);
  const bool dwells = routing_ == SynthRouting::bursty || routing_ == SynthRouting::drift;
  std::vector<std::int32_t> ids(static_cast<std::size_t>(tokens));
  std::uint32_t cluster = 0;
  for (std::int64_t i = 0; i < tokens; ++i) {
    const auto at = static_cast<std::uint64_t>(i) * 2;
    if (!dwells) {
      ids[static_cast<std::size_t>(i)] = kSynthOrdinary + static_cast<std::int32_t>(random.below(ordinary, at));
      continue;
    }
    if (i % kDwell == 0) {
      // Another one than before, of those in use at the time.
      const bool drifts = routing_ == SynthRouting::drift;
      const std::uint32_t in_use = drifts ? clusters / 2 : clusters;
      const std::uint32_t first = drifts && i >= tokens / 2 ? in_use : 0;
      const bool is_in_use = i > 0 && cluster >= first && cluster < first + in_use;
      const std::uint32_t draw = random.below(is_in_use ? in_use - 1 : in_use, at + 1);
      cluster = first + (is_in_use && draw >= cluster - first ? draw + 1 : draw);
    }
    // The ordinary ids that are equal to the cluster, modulo their number.
    const std::uint32_t lowest = kSynthOrdinary + (cluster + clusters - kSynthOrdinary % clusters) % clusters;
    const std::uint32_t count = (static_cast<std::uint32_t>(shape_.vocab) - lowest + clusters - 1) / clusters;
    ids[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(lowest + clusters * random.below(count, at));
  }
  return ids;
}

}  // namespace expertscope
