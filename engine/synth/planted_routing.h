// Which experts a token goes to, planted in embeddings and routers (reference: models.md 9.3). Random weights route
// almost evenly, and then no cache policy can beat another; here skew and locality are chosen.
//
// The vocabulary is divided into clusters, c = id mod clusters, with orthonormal directions u_c. A token's embedding is
// its cluster's direction plus noise of its own; a router's row for an expert holds how much each cluster wants it (the
// logarithm of a Zipf law under a permutation of the layer and cluster) plus a random direction that only the noise of
// tokens can meet. As long as the residual stream stays close to the embedding, a token's experts depend on its id
// alone.
//
// Immutable; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "engine/synth/synth_shape.h"

namespace expertscope {

enum class SynthRouting : std::uint8_t {
  uniform,  // every expert equally often, no locality
  zipf,     // the same experts are popular whatever the text says
  bursty,   // the text stays in one cluster for a while, and each cluster has its own popular experts
  drift     // bursty, and half-way all clusters are replaced by others
};
std::string_view name(SynthRouting);
SynthRouting find_synth_routing(std::string_view name);  // InputError lists what there is

class PlantedRouting {
 public:
  PlantedRouting(const SynthShape&, SynthRouting, std::uint64_t seed);

  static constexpr double kZipfExponent = 1.2;
  static constexpr std::int64_t kDwell = 64;  // tokens that a bursty text stays in a cluster

  int cluster_of(std::int32_t token) const { return static_cast<int>(token) % shape_.clusters; }
  // [width]; root mean square kEmbeddingRms, so that what layers add to the stream is small beside it.
  void embedding(std::int32_t token, std::span<float> out) const;
  static constexpr double kEmbeddingRms = 64;
  // [experts][width]
  void router(int layer, std::span<float> out) const;
  // Token ids of a text with the routing's locality; ordinary tokens only.
  std::vector<std::int32_t> stream(std::int64_t tokens) const;

 private:
  float sign(std::size_t i, int cluster) const;  // +-1: sqrt(width) * u_c
  void remove_clusters(std::span<float> v) const;
  void normalise(std::span<float> v, double norm) const;
  std::vector<float> preferences(int layer, int cluster) const;  // [experts]

  const SynthShape shape_;
  SynthRouting routing_;
  std::uint64_t seed_;
  std::vector<float> signs_;  // [width]: of the coordinates, so that no direction is a regular pattern
};

// The layout of the vocabulary: <unk>, <s>, </s>, 256 bytes, then ordinary tokens.
inline constexpr int kSynthBytes = 3, kSynthOrdinary = kSynthBytes + 256;

}  // namespace expertscope
