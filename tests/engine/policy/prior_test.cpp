#include "engine/policy/prior.h"

#include <limits>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "engine/base64.h"
#include "engine/error.h"

namespace expertscope {
namespace {

using nlohmann::json;

constexpr int kLayers = 3, kExperts = 2;

ByteMatrix some_matrix(int rows, int columns) {
  ByteMatrix m{.rows = rows, .columns = columns, .scale = {}, .q = {}};
  for (int c = 0; c < columns; ++c) m.scale.push_back(0.1F * static_cast<float>(c + 1));
  for (int i = 0; i < rows * columns; ++i) m.q.push_back(static_cast<std::int8_t>(i * 37 - 100));
  return m;
}

// Every part learned, of a model of 3 layers with 2 experts and top-2.
Prior full_prior() {
  Prior p;
  p.source = "a test";
  p.model_name = "small \"model\"";
  p.model_sha256 = "abc";
  p.layers = kLayers;
  p.experts = kExperts;
  p.prefill_tokens = 7;
  p.decode_tokens = 5;
  p.popularity = {{0.25, 0.75}, {0.5, 0.5}, {1, 0}};
  p.popularity_prefill = p.popularity_decode = p.popularity;
  p.transitions = {{1, 2, 3, 4, 65535, 0, 7, 8}, {32768, 1, 0, 9}};
  p.activations = {{.prefill = {1, 2, 3, 4, 5, 6}, .decode = {0, 0, 0, 0, 0, 65535}},
                   {.prefill = {6, 5, 4, 3, 2, 1}, .decode = {9, 9, 9, 9, 9, 9}}};
  p.lookahead_recall = {{0, 0.5, 0.75}, {0, 0, 0.5}, {0, 0, 0}};
  p.loss_rise = {0.1, -0.01, 0.02};
  p.sensitivity = {5, 0, 0.05};
  p.weight_quantiles = {{{0, 0.2, 0.5}}, {{0.1, 0.1, 0.1}}, {{0, 0.25, 0.5}}};
  p.importance = {.loss_rise = {{0.1, -0.1}, {0, 0.2}, {0.05, 0.3}},
                  .int8_int4 = {0, 0, 0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.01},
                  .int4_int2 = {0.01, 0.012, 0.016, 0.02, 0.04, 0.08, 0.1, 0.2, 0.3}};
  p.routing_path = {.recent = 2,
                    .decays = {0.5},
                    .embedding = some_matrix(11, 4),
                    .input = some_matrix(12, 3),
                    .input_bias = {1, -2, 0.3F},
                    .output = some_matrix(3, 6),
                    .output_bias = {1, 2, 3, 4, 5, 6}};
  return p;
}

std::string refusal(const json& file, int layers = kLayers, int experts = kExperts) {
  try {
    parse_prior(file.dump(), "p.json", layers, experts);
  } catch (const InputError& e) {
    return e.what();
  }
  return "";
}

json full_file() {
  return json::parse(to_json(full_prior()));
}

TEST(Prior, ReadsWhatItWroteBitForBit) {
  const Prior prior = full_prior();
  EXPECT_EQ(parse_prior(to_json(prior), "p.json", kLayers, kExperts), prior);
  EXPECT_EQ(to_json(parse_prior(to_json(prior), "p.json", kLayers, kExperts)), to_json(prior));
}

TEST(Prior, OfPopularityAloneIsEnoughAndKnowsNothingElse) {
  const Prior p = parse_prior(R"({"source": "by hand", "popularity": [[1, 0], [0, 1], [3, 4]]})", "p.json", 3, 2);
  EXPECT_EQ(p.popularity[2][1], 4);
  EXPECT_TRUE(p.popularity_decode.empty() && p.activations.empty());
  EXPECT_FALSE(p.has_transitions() || p.has_lookahead_recall() || p.has_sensitivity() || p.has_routing_path());
}

TEST(Prior, ThatDoesNotFitIsRefusedWithFileAndKey) {
  EXPECT_EQ(refusal(full_file()), "");
  EXPECT_NE(refusal(full_file(), 4).find("p.json.popularity"), std::string::npos);
  EXPECT_NE(refusal(full_file(), 3, 4).find("p.json.popularity"), std::string::npos);
  const auto expect_refused = [](const char* pointer, const json& value, const char* key) {
    json file = full_file();
    file[json::json_pointer(pointer)] = value;
    EXPECT_NE(refusal(file).find(key), std::string::npos) << pointer << ": " << refusal(file);
  };
  expect_refused("/popularty", 1, "popularty");
  expect_refused("/source", 1, "source");
  expect_refused("/model/year", 1, "year");
  expect_refused("/tokens/decode", -1, "decode");
  expect_refused("/popularity_prefill/0/1", -0.5, "popularity_prefill");
  expect_refused("/transitions/1", "AAAA", "transitions.2");
  expect_refused("/transitions/0", "####", "transitions.1");
  expect_refused("/transitions", json::array(), "transitions");
  expect_refused("/activations/texts", 3, "activations.prefill");
  expect_refused("/activations/texts", 1e300, "activations.texts");
  expect_refused("/lookahead_recall/0/1", 1.5, "lookahead_recall");
  expect_refused("/adapmoe/sensitivity/0", -1, "sensitivity");
  expect_refused("/adapmoe/weight_quantiles/0/0/1", 0.9, "weight_quantiles");
  expect_refused("/adapmoe/weight_quantiles/0/0", json::array({1}), "weight_quantiles");
  expect_refused("/edgemoe/loss_rise/0", json::array({1}), "loss_rise");
  expect_refused("/edgemoe/int4_int2", json::array({1}), "int4_int2");
  expect_refused("/routing_path/recent", 0, "recent");
  expect_refused("/routing_path/decays/0", 2, "decays");
  expect_refused("/routing_path/embedding/rows", 12, "embedding.int8");
  expect_refused("/routing_path/input/rows", 13, "input.rows");
  expect_refused("/routing_path/output/columns", 7, "output.columns");
  expect_refused("/routing_path/output/scale", "AAAA", "output.scale");
  expect_refused("/routing_path/output_bias", json::array(), "output_bias");
}

TEST(Prior, RefusesNumbersThatAreNotFinite) {
  Prior p = full_prior();
  p.routing_path.input_bias[1] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_NE(refusal(json::parse(to_json(p))).find("input_bias"), std::string::npos);
}

TEST(Prior, ThatIsNoJsonOrMissingIsRefused) {
  EXPECT_THROW(parse_prior("{", "p.json", 1, 1), InputError);
  EXPECT_THROW(load_prior("/nonexistent/prior.json", 1, 1), InputError);
}

TEST(Prior, TransitionsByLayerExpertAndDistance) {
  const Prior p = full_prior();
  EXPECT_DOUBLE_EQ(p.transition(0, 1, 0), 3 / 65535.0);
  EXPECT_DOUBLE_EQ(p.transition(1, 0, 0), 1);
  EXPECT_DOUBLE_EQ(p.transition(0, 0, 0, 2), 32768 / 65535.0);
  EXPECT_EQ(p.lookahead(2), 0.75);
  EXPECT_EQ(p.lookahead(2, 2), 0.5);
}

TEST(Prior, AdapMoeThresholdsAndTheShareThatStaysBelowThem) {
  const Prior p = full_prior();
  EXPECT_DOUBLE_EQ(p.drop_threshold(0, 0.05), 0.1);
  EXPECT_EQ(p.drop_threshold(1, 0.005), std::numeric_limits<double>::infinity());
  // Half of the layer's tokens have a second weight below 0.2, and none above 0.5.
  EXPECT_EQ(p.kept_shares(0, 0.2), (std::vector<double>{0.5, 0.5}));
  EXPECT_EQ(p.kept_shares(0, 0.1), (std::vector<double>{0.25, 0.75}));
  EXPECT_EQ(p.kept_shares(0, 0), (std::vector<double>{0, 1}));
  EXPECT_EQ(p.kept_shares(0, 0.6), (std::vector<double>{1, 0}));
  EXPECT_EQ(p.kept_shares(1, 0.1), (std::vector<double>{0, 1}));
  EXPECT_EQ(p.kept_shares(1, p.drop_threshold(1, 0.005)), (std::vector<double>{1, 0}));
}

TEST(Base64, KnownTextsBothWays) {
  for (const auto& [plain, coded] : {std::pair{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foobar", "Zm9vYmFy"}}) {
    const std::string_view text = plain;
    const std::vector<std::uint8_t> bytes(text.begin(), text.end());
    EXPECT_EQ(to_base64(bytes), coded);
    EXPECT_EQ(from_base64(coded), bytes);
  }
  EXPECT_FALSE(from_base64("Zg="));
  EXPECT_FALSE(from_base64("Zg!="));
  EXPECT_FALSE(from_base64("===="));
}

TEST(Prior, AsManyExpertsHaveFewerBitsAsTheToleratedLossAllows) {
  const ExpertImportance importance = full_prior().importance;  // of six experts
  EXPECT_EQ(importance.least(1), (std::vector<bool>{false, true, false, false, false, false})) << "layer 0, expert 1";
  EXPECT_EQ(importance.least(5), (std::vector<bool>{true, true, true, true, true, false}))
      << "all but layer 2, expert 1";
  EXPECT_EQ(importance.lowered(importance.int4_int2, 0.009), 0u) << "int4 alone costs more";
  EXPECT_EQ(importance.lowered(importance.int4_int2, 0.02), 2u) << "three eighths of six";
  EXPECT_EQ(importance.lowered(importance.int4_int2, 0.04), 3u);
  EXPECT_EQ(importance.lowered(importance.int4_int2, 0.09), 4u) << "between five and six eighths";
  EXPECT_EQ(importance.lowered(importance.int8_int4, 0.02), 6u);
}

}  // namespace
}  // namespace expertscope
