// The demo model must compute what a plain float32 forward pass over its dequantised weights computes, and the same
// bits however the work is cut.
#include <cmath>
#include <sstream>

#include <gtest/gtest.h>

#include "engine/model/elementary.h"
#include "engine/model/sampler.h"
#include "tests/engine/model/demo_model.h"
#include "tests/engine/model/forward_pass.h"

namespace expertscope {
namespace {

constexpr float kNearTie = 1e-4f;

std::vector<float> copy(std::span<const float> values) {
  return {values.begin(), values.end()};
}

float margin_of_best(std::span<const float> logits) {
  std::vector<float> sorted = copy(logits);
  std::partial_sort(sorted.begin(), sorted.begin() + 2, sorted.end(), std::greater<>());
  return sorted[0] - sorted[1];
}

std::vector<std::int32_t> prompt_ids(const std::string& name) {
  return golden_outputs().at(name).at("ids");
}

class GoldenPrompt : public testing::TestWithParam<std::string> {
 protected:
  const nlohmann::json& golden() const { return golden_outputs().at(GetParam()); }
};

TEST_P(GoldenPrompt, TokenizesToTheSameIds) {
  EXPECT_EQ(demo_model().tokenizer().encode(golden().at("prompt").get<std::string>()), prompt_ids(GetParam()));
}

TEST_P(GoldenPrompt, DecodesGreedyIdsToTheSameText) {
  const std::vector<std::int32_t> ids = golden().at("greedy_ids");
  EXPECT_EQ(demo_model().tokenizer().decode(ids), golden().at("greedy_text").get<std::string>());
}

TEST_P(GoldenPrompt, GivesTheSameLastLogits) {
  ThreadPool pool(2);
  ModelSteps forward(demo_model(), pool);
  forward.step(prompt_ids(GetParam()));
  for (const auto& entry : golden().at("last_logits_top")) {
    EXPECT_NEAR(forward.logits()[entry[0].get<std::size_t>()], entry[1].get<float>(), 1e-2) << "token " << entry[0];
  }
}

TEST_P(GoldenPrompt, ChoosesTheSameExpertsForEveryLayerAndToken) {
  ThreadPool pool(2);
  ModelSteps forward(demo_model(), pool);
  forward.step(prompt_ids(GetParam()));
  const auto& routes = golden().at("routes");
  int near_ties = 0;
  for (std::size_t layer = 0; layer < routes.size(); ++layer) {
    for (std::size_t token = 0; token < routes[layer].size(); ++token) {
      const ModelSteps::Pick& pick = forward.picks[layer][token];
      if (pick.margin < kNearTie) ++near_ties;
      EXPECT_EQ(pick.ids, routes[layer][token].get<std::vector<std::uint16_t>>())
          << "layer " << layer << ", token " << token << ", margin " << pick.margin;
    }
  }
  RecordProperty("near_ties", near_ties);
}

TEST_P(GoldenPrompt, GivesTheSameMeanLogLikelihood) {
  ThreadPool pool(2);
  ModelSteps forward(demo_model(), pool);
  const std::vector<std::int32_t> ids = prompt_ids(GetParam());
  forward.step(ids, true);
  double sum = 0;
  for (std::size_t t = 0; t + 1 < ids.size(); ++t) {
    const std::span<const float> logits = forward.arithmetic().logits(static_cast<int>(t));
    const double largest = *std::max_element(logits.begin(), logits.end());
    double total = 0;
    for (const float logit : logits) total += exp_f64(logit - largest);
    sum += largest + log_f64(total) - logits[static_cast<std::size_t>(ids[t + 1])];
  }
  EXPECT_NEAR(sum / static_cast<double>(ids.size() - 1), golden().at("mean_nll").get<double>(), 1e-3);
}

TEST_P(GoldenPrompt, WritesTheSame48GreedyTokens) {
  ThreadPool pool(2);
  ModelSteps forward(demo_model(), pool);
  forward.step(prompt_ids(GetParam()));
  std::vector<std::int32_t> written;
  std::ostringstream near_ties;
  for (int i = 0; i < 48; ++i) {
    const std::span<const float> logits = forward.logits();
    written.push_back(greedy_token(logits));
    const float margin = margin_of_best(logits);
    if (margin < kNearTie) near_ties << " token " << i << " by " << margin << ";";
    forward.step(std::span(&written.back(), 1));
  }
  EXPECT_EQ(written, golden().at("greedy_ids").get<std::vector<std::int32_t>>()) << "near-ties:" << near_ties.str();
}

TEST_P(GoldenPrompt, GivesTheSameBitsInOneBatchInChunksAndTokenByToken) {
  ThreadPool pool(2);
  const std::vector<std::int32_t> ids = prompt_ids(GetParam());
  ModelSteps whole(demo_model(), pool);
  whole.step(ids);
  for (const std::size_t chunk : {1u, 3u, 7u}) {
    ModelSteps pieces(demo_model(), pool);
    for (std::size_t i = 0; i < ids.size(); i += chunk) {
      pieces.step(std::span(ids).subspan(i, std::min(chunk, ids.size() - i)));
    }
    EXPECT_EQ(copy(whole.logits()), copy(pieces.logits())) << "chunks of " << chunk;
  }
}

TEST_P(GoldenPrompt, GivesTheSameBitsForEveryNumberOfThreads) {
  const std::vector<std::int32_t> ids = prompt_ids(GetParam());
  ThreadPool alone(1);
  ModelSteps one(demo_model(), alone);
  one.step(ids);
  one.step(std::vector<std::int32_t>{5});
  for (const int threads : {2, 3}) {
    ThreadPool pool(threads);
    ModelSteps more(demo_model(), pool);
    more.step(ids);
    more.step(std::vector<std::int32_t>{5});
    EXPECT_EQ(copy(one.logits()), copy(more.logits())) << threads << " threads";
  }
}

std::vector<std::string> prompt_names() {
  std::vector<std::string> names;
  for (const auto& [name, value] : golden_outputs().items()) names.push_back(name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(Demo, GoldenPrompt, testing::ValuesIn(prompt_names()),
                         [](const auto& prompt) { return prompt.param; });

}  // namespace
}  // namespace expertscope
