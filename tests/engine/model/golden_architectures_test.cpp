// The small checkpoints of the other architectures must compute what a float32 reference implementation computes, and
// the same bits however the work is cut.
#include <cmath>
#include <iostream>

#include <gtest/gtest.h>

#include "engine/model/sampler.h"
#include "tests/engine/model/demo_model.h"
#include "tests/engine/model/forward_pass.h"

namespace expertscope {
namespace {

constexpr float kNearTie = 1e-4f;
constexpr double kLogitTolerance = 1e-4;  // weights in float32 on both sides; rounding alone differs

struct Checkpoint {
  explicit Checkpoint(const std::string& architecture)
      : model(path(architecture) + "-f32.gguf"),
        golden(nlohmann::json::parse(std::ifstream(path(architecture) + ".golden.json"))) {}
  static std::string path(const std::string& architecture) {
    return std::string(ES_ASSETS_DIR) + "/model/tiny/tiny-" + architecture;
  }
  Model model;
  nlohmann::json golden;
};

const Checkpoint& checkpoint(const std::string& architecture) {
  static const Checkpoint qwen3moe("qwen3moe"), olmoe("olmoe");
  return architecture == "olmoe" ? olmoe : qwen3moe;
}

struct Case {
  std::string architecture, prompt;
};

class GoldenArchitecture : public testing::TestWithParam<Case> {
 protected:
  const Model& model() const { return checkpoint(GetParam().architecture).model; }
  const nlohmann::json& golden() const { return checkpoint(GetParam().architecture).golden.at(GetParam().prompt); }
  std::vector<std::int32_t> ids() const { return golden().at("ids"); }
  static std::vector<float> copy(std::span<const float> values) { return {values.begin(), values.end()}; }
};

TEST_P(GoldenArchitecture, GivesTheSameLastLogits) {
  ThreadPool pool(2);
  ModelSteps forward(model(), pool);
  forward.step(ids());
  for (const auto& entry : golden().at("last_logits_top")) {
    EXPECT_NEAR(forward.logits()[entry[0].get<std::size_t>()], entry[1].get<float>(), kLogitTolerance)
        << "token " << entry[0];
  }
}

TEST_P(GoldenArchitecture, GivesLogitsOfTheSameSizeAtEveryPosition) {
  ThreadPool pool(2);
  ModelSteps forward(model(), pool);
  forward.step(ids(), true);
  double squares = 0;
  for (int t = 0; t < std::ssize(ids()); ++t)
    for (const double logit : forward.arithmetic().logits(t)) squares += logit * logit;
  EXPECT_NEAR(std::sqrt(squares), golden().at("logits_l2").get<double>(), 1e-3);
}

TEST_P(GoldenArchitecture, ChoosesTheSameExpertsForEveryLayerAndToken) {
  ThreadPool pool(2);
  ModelSteps forward(model(), pool);
  forward.step(ids());
  const auto& routes = golden().at("routes");
  for (std::size_t layer = 0; layer < routes.size(); ++layer) {
    for (std::size_t token = 0; token < routes[layer].size(); ++token) {
      const ModelSteps::Pick& pick = forward.picks[layer][token];
      if (pick.margin < kNearTie)
        std::cout << "[ near-tie ] layer " << layer << ", token " << token << " by " << pick.margin << "\n";
      EXPECT_EQ(pick.ids, routes[layer][token].get<std::vector<std::uint16_t>>())
          << "layer " << layer << ", token " << token << ", margin " << pick.margin;
    }
  }
}

TEST_P(GoldenArchitecture, WritesTheSameGreedyTokens) {
  ThreadPool pool(2);
  ModelSteps forward(model(), pool);
  forward.step(ids());
  const std::vector<std::int32_t> expected = golden().at("greedy_ids");
  std::vector<std::int32_t> written;
  while (written.size() < expected.size()) {
    std::vector<float> sorted = copy(forward.logits());
    std::partial_sort(sorted.begin(), sorted.begin() + 2, sorted.end(), std::greater<>());
    if (sorted[0] - sorted[1] < kNearTie)
      std::cout << "[ near-tie ] greedy token " << written.size() << " by " << sorted[0] - sorted[1] << "\n";
    written.push_back(greedy_token(forward.logits()));
    forward.step(std::span(&written.back(), 1));
  }
  EXPECT_EQ(written, expected);
}

TEST_P(GoldenArchitecture, GivesTheSameBitsInOneBatchInChunksAndForEveryNumberOfThreads) {
  ThreadPool alone(1);
  ModelSteps whole(model(), alone);
  const std::vector<std::int32_t> prompt = ids();
  whole.step(prompt);
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    for (const std::size_t chunk : {std::size_t{1}, std::size_t{7}, prompt.size()}) {
      ModelSteps pieces(model(), pool);
      for (std::size_t i = 0; i < prompt.size(); i += chunk)
        pieces.step(std::span(prompt).subspan(i, std::min(chunk, prompt.size() - i)));
      EXPECT_EQ(copy(whole.logits()), copy(pieces.logits())) << "chunks of " << chunk << ", " << threads << " threads";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tiny, GoldenArchitecture,
                         testing::Values(Case{"qwen3moe", "short"}, Case{"qwen3moe", "long"}, Case{"olmoe", "short"},
                                         Case{"olmoe", "long"}),
                         [](const auto& parameter) {
                           return parameter.param.architecture + "_" + parameter.param.prompt;
                         });

}  // namespace
}  // namespace expertscope
