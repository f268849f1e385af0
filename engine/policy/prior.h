// What a policy knows before it starts: what `expertscope learn` saw on other texts. A JSON file; unknown keys are
// refused, and every part but `source` and `popularity` may be missing, for a prior written by hand or by another tool.
// Tables are base64 of little-endian numbers.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "engine/ids.h"

namespace expertscope {

// Distances of transitions, and gates of coming layers, that a prior knows.
inline constexpr int kPriorTransitions = 2;
inline constexpr int kPriorLookahead = 3;

// Weights of the routing-path predictor: value = q * scale of its column. Row-major.
struct ByteMatrix {
  int rows = 0, columns = 0;
  std::vector<float> scale;  // [columns]
  std::vector<std::int8_t> q;
  bool operator==(const ByteMatrix&) const = default;
};

// ExpertFlow's routing-path predictor in our form (engine/policy/routing_path.h runs it): embeddings of the last
// `recent` tokens and running means of all tokens so far -> one hidden layer -> a probability for every expert of every
// layer.
struct RoutingPathWeights {
  int recent = 0;              // tokens seen one by one, the newest first
  std::vector<double> decays;  // of the running means
  ByteMatrix embedding;        // [vocab][width]
  ByteMatrix input;            // [(recent + decays) * width][hidden]
  std::vector<float> input_bias;
  ByteMatrix output;  // [hidden][layers * experts]
  std::vector<float> output_bias;
  bool operator==(const RoutingPathWeights&) const = default;
};

// Tokens of one text by layer and expert: [layer * experts + expert].
struct ActivationMatrix {
  std::vector<std::uint16_t> prefill, decode;  // `decode` is all 0 where nothing was generated
  bool operator==(const ActivationMatrix&) const = default;
};

// Steps in which EdgeMoE's share of experts in the lower of two bit-widths grows.
inline constexpr int kImportanceShares = 8;

// EdgeMoE: how much each expert's bit-width matters. All empty where not learned.
struct ExpertImportance {
  // [layer][expert]: nats a token by which the loss rises when this expert is in int2 and all others are in int4.
  std::vector<std::vector<double>> loss_rise;
  // [i]: rise of the loss over the native model's, as a share of it, with the i / 8 of all experts that matter least in
  // the lower of two precisions and the others in the higher.
  std::vector<double> int8_int4, int4_int2;

  // [layer * experts + expert]: whether it is among the `count` that matter least.
  std::vector<bool> least(std::size_t count) const;
  // How many of them may be in the lower precision before the loss rises by more than `tolerance`; between two measured
  // shares on a straight line. 0 when none may.
  std::size_t lowered(std::span<const double> rises, double tolerance) const;
  bool operator==(const ExpertImportance&) const = default;
};

struct Prior {
  std::string source;        // where it was learned, one line
  std::string model_name;    // "" where not known
  std::string model_sha256;  // of the model's file; "" where not known
  int layers = 0, experts = 0;
  std::int64_t prefill_tokens = 0, decode_tokens = 0;  // it was learned from

  // [layer][expert]: share of the layer's picks, over all tokens, those of prompts, and those generated.
  std::vector<std::vector<double>> popularity;
  std::vector<std::vector<double>> popularity_prefill, popularity_decode;  // empty where not learned

  // [d - 1], d = 1 .. 2: [layer][i][j], flat: P(j is among a token's picks in layer + d | i is among
  // its picks in `layer`), for layer < layers - d. A row sums to top-k. In 65535ths. Empty where not learned.
  std::vector<std::vector<std::uint16_t>> transitions;
  bool has_transitions() const { return !transitions.empty(); }
  double transition(int layer, int from, int to, int distance = 1) const;

  std::vector<ActivationMatrix> activations;  // one a text; empty where not learned

  // [d - 1][layer], d = 1 .. 3: share of a token's picks in `layer` that are among the top-k of its gate on the input
  // of layer - d; 0 for layer < d. AdapMoE's a_l is that of d = 1. Empty where not learned.
  std::vector<std::vector<double>> lookahead_recall;
  bool has_lookahead_recall() const { return !lookahead_recall.empty(); }
  double lookahead(int layer, int distance = 1) const;

  // AdapMoE. loss_rise: nats a token by which the loss rises when in this layer alone the lower half of each token's
  // ranks (rank 2 of 2) is dropped and the others' weights are renormalised. sensitivity: w_l of dL = 1/2 (1 - a)^2 w,
  // a the renormalised weight that stays, so w_l = 2 loss_rise / mean (1 - a)^2, at least 0: 0 where the loss did not
  // rise. Empty where not learned.
  std::vector<double> loss_rise, sensitivity;  // [layer]
  // [layer][rank - 2][i]: i / (n - 1) quantiles of a rank's renormalised weight, rank 2 to top-k. Empty where not
  // learned.
  std::vector<std::vector<std::vector<double>>> weight_quantiles;
  bool has_sensitivity() const { return !sensitivity.empty(); }
  // sqrt(T / w_l): ranks from 2 on whose renormalised weight is below are dropped. Infinity where w_l is 0.
  double drop_threshold(int layer, double T) const;
  // [k - 1]: share of tokens of which that threshold leaves k experts, k = 1 to top-k. Needs weight_quantiles.
  // The first is AdapMoE's single-expert ratio r_l.
  std::vector<double> kept_shares(int layer, double threshold) const;

  ExpertImportance importance;
  bool has_importance() const { return !importance.loss_rise.empty(); }

  RoutingPathWeights routing_path;
  bool has_routing_path() const { return routing_path.recent > 0; }

  bool operator==(const Prior&) const = default;
};

// Both throw InputError with file and key when it does not fit a model of these shapes.
Prior load_prior(const std::filesystem::path&, int layers, int experts);
Prior parse_prior(const std::string& json_text, const std::string& origin, int layers, int experts);
std::string to_json(const Prior&);  // compact; parse_prior(to_json(p)) == p

}  // namespace expertscope
