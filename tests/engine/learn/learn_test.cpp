#include "engine/learn/learn.h"

#include <set>
#include <utility>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "engine/error.h"
#include "engine/learn/importance.h"
#include "engine/learn/prediction_recall.h"
#include "engine/learn/sensitivity.h"
#include "engine/learn/text_loss.h"
#include "engine/model/expert_versions.h"
#include "engine/model/likelihood.h"
#include "engine/model/routing.h"
#include "tests/engine/emulated_run.h"

namespace expertscope {
namespace {

using Texts = std::vector<std::vector<std::int32_t>>;

const Model& tiny_olmoe() {
  static const Model model(std::string(ES_ASSETS_DIR) + "/model/tiny/tiny-olmoe-f32.gguf");
  return model;
}

Texts tiny_texts() {
  Texts texts(3);
  for (std::size_t t = 0; t < texts.size(); ++t)
    for (std::size_t i = 0; i < 20 + 30 * t; ++i)
      texts[t].push_back(static_cast<std::int32_t>((i * i * 7 + 13 * t + 5) % 90));
  return texts;
}

// The first `each` texts of every list of a file of prompts, cut to so many tokens.
Texts demo_texts(const char* file, std::size_t each, std::size_t tokens) {
  Texts texts;
  const auto lists = nlohmann::ordered_json::parse(std::ifstream(std::string(ES_ASSETS_DIR) + "/model/" + file));
  for (const auto& list : lists) {
    for (std::size_t i = 0; i < each; ++i) {
      texts.push_back(demo_model().tokenizer().encode(list.at(i).get<std::string>()));
      texts.back().resize(std::min(texts.back().size(), tokens));
    }
  }
  return texts;
}

LearnRule quick(int generate, int continuations) {
  LearnRule rule;
  rule.recording = {.generate = generate, .continuations = continuations, .temperature = 1, .seed = 3};
  rule.sensitivity_tokens = 64;
  rule.importance_tokens = 8;
  rule.routing_path.epochs = 2;
  return rule;
}

std::string learned_with(const Model& model, const Texts& texts, const LearnRule& rule, int threads) {
  ThreadPool pool(threads);
  return to_json(learn(model, pool, "a test", texts, rule, {}).prior);
}

TEST(Learn, GivesTheSameBytesTwiceAndWithEveryNumberOfThreads) {
  const LearnRule rule = quick(12, 2);
  const std::string once = learned_with(tiny_olmoe(), tiny_texts(), rule, 1);
  EXPECT_EQ(learned_with(tiny_olmoe(), tiny_texts(), rule, 1), once);
  EXPECT_EQ(learned_with(tiny_olmoe(), tiny_texts(), rule, 2), once);
  EXPECT_EQ(learned_with(tiny_olmoe(), tiny_texts(), rule, 3), once);
}

TEST(Learn, AnotherSeedGivesAnotherPrior) {
  LearnRule rule = quick(12, 2);
  const std::string once = learned_with(tiny_olmoe(), tiny_texts(), rule, 2);
  rule.recording.seed = 4;
  EXPECT_NE(learned_with(tiny_olmoe(), tiny_texts(), rule, 2), once);
}

TEST(Learn, WhatItWritesIsReadBackAsItWas) {
  ThreadPool pool(2);
  const Prior prior = learn(tiny_olmoe(), pool, "a test", tiny_texts(), quick(8, 1), {}).prior;
  const ModelDescription& d = tiny_olmoe().description();
  EXPECT_EQ(parse_prior(to_json(prior), "p.json", d.layers, d.router.experts), prior);
  EXPECT_EQ(prior.model_sha256, tiny_olmoe().file_sha256());
  EXPECT_EQ(prior.activations.size(), 3u);
  EXPECT_EQ(prior.weight_quantiles[0].size(), static_cast<std::size_t>(d.router.top_k - 1));
}

TEST(Learn, PopularityOfAPromptIsTheCountOfACapturesRoutes) {
  EmulatedRun run("on-demand", 0.5);
  const std::vector<std::int32_t> ids = demo_model().tokenizer().encode(kTale);
  run.generate(kTale, 1);
  ThreadPool pool(2);
  const RecordedTexts texts = record_texts(demo_model(), pool, Texts{ids}, {}, {});
  const Prior prior = learn(demo_model(), pool, "a test", Texts{ids}, quick(0, 1), {}).prior;
  std::vector<std::vector<double>> counts(12, std::vector<double>(16));
  for (const RouteRecord& r : run.events.routes)
    for (std::size_t k = 0; k < r.picks; ++k) ++counts[r.layer][r.expert[k]];
  for (std::size_t l = 0; l < 12; ++l) {
    for (std::size_t e = 0; e < 16; ++e) {
      EXPECT_NEAR(prior.popularity_prefill[l][e], counts[l][e] / (2.0 * static_cast<double>(ids.size())), 1e-6);
      EXPECT_EQ(prior.activations[0].prefill[l * 16 + e], counts[l][e]);
    }
  }
  EXPECT_EQ(prior.popularity, prior.popularity_prefill);
  EXPECT_TRUE(prior.popularity_decode.empty()) << "nothing was generated";
  EXPECT_EQ(texts.forwarded, static_cast<std::int64_t>(ids.size()));
}

TEST(Learn, ContinuationsAreWhatDecodingGives) {
  EmulatedRun run("on-demand", 0.5);
  const std::vector<std::int32_t> generated = run.generate(kTale, 6);
  ThreadPool pool(2);
  const Texts prompts = {demo_model().tokenizer().encode(kTale), demo_model().tokenizer().encode("int main(")};
  const RecordedTexts texts = record_texts(demo_model(), pool, prompts, {.generate = 5, .temperature = 0}, {});
  const RecordedText& text = texts.texts[0];
  EXPECT_EQ(std::vector(text.ids.begin() + static_cast<std::ptrdiff_t>(text.prompt_tokens), text.ids.end()),
            std::vector(generated.begin(), generated.end() - 1));
  // The routes of the last forwarded token, which is the run's last decode step.
  for (const RouteRecord& r : run.events.routes) {
    if (r.step != 5) continue;
    EXPECT_EQ(texts.picks(text, text.ids.size() - 1, r.layer)[0], r.expert[0]);
    EXPECT_EQ(texts.picks(text, text.ids.size() - 1, r.layer)[1], r.expert[1]);
  }
}

TEST(Learn, TransitionsAreSharesThatSumToTopK) {
  ThreadPool pool(2);
  const Prior prior = learn(tiny_olmoe(), pool, "a test", tiny_texts(), quick(0, 1), {}).prior;
  for (int distance = 1; distance <= 2; ++distance) {
    for (int layer = 0; layer + distance < prior.layers; ++layer) {
      for (int from = 0; from < prior.experts; ++from) {
        double sum = 0;
        for (int to = 0; to < prior.experts; ++to) sum += prior.transition(layer, from, to, distance);
        EXPECT_NEAR(sum, tiny_olmoe().description().router.top_k, 1e-3);
      }
    }
  }
}

TEST(Learn, LookaheadRecallIsThatOfRecordedGates) {
  EmulatedRun run("on-demand", 0.5);
  run.generate(kTale, 1);
  ThreadPool pool(1);
  const Texts texts = {demo_model().tokenizer().encode(kTale)};
  const Prior prior = learn(demo_model(), pool, "a test", texts, quick(0, 1), {}).prior;
  for (int distance = 1; distance <= 3; ++distance) {
    std::vector<double> found(12);
    for (const RouteRecord& r : run.events.routes) {
      if (r.layer < distance) continue;
      // Routes are in the order of layers, then tokens.
      const RouteRecord& before =
          run.events.routes[static_cast<std::size_t>(r.layer - distance) * texts[0].size() + r.token];
      for (std::size_t k = 0; k < 2; ++k)
        for (std::size_t i = 0; i < 2; ++i)
          found[r.layer] += before.gate[static_cast<std::size_t>(distance)][i].expert == r.expert[k];
    }
    for (int l = 0; l < 12; ++l)
      EXPECT_NEAR(prior.lookahead(l, distance),
                  found[static_cast<std::size_t>(l)] / (2.0 * static_cast<double>(texts[0].size())), 0.02)
          << "gates are recorded in 16 bits, which ties some";
  }
}

// The loss of a text by the model's own pieces, one token a step, with only the best expert run in one layer (-1: both
// in all).
double plain_loss(const std::vector<std::int32_t>& ids, int ablated) {
  ThreadPool pool(1);
  Arithmetic arithmetic(demo_model(), pool, 1, 1);
  const RouterRule& rule = demo_model().description().router;
  std::vector<std::uint16_t> experts(2);
  std::vector<float> weights(2), probabilities(16);
  double sum = 0;
  for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
    const TokenInput token{.id = ids[i], .sequence = 0, .position = static_cast<int>(i), .wants_logits = true};
    arithmetic.begin_step({&token, 1});
    for (int l = 0; l < 12; ++l) {
      arithmetic.attention(l);
      arithmetic.router(l);
      route(rule, arithmetic.router_logits(0), experts, weights, probabilities);
      if (l == ablated) weights = {1, 0};
      for (std::int32_t rank = 0; rank < (l == ablated ? 1 : 2); ++rank) {
        const ExpertId id{static_cast<std::uint16_t>(l), experts[static_cast<std::size_t>(rank)]};
        const Arithmetic::ExpertRow row{.token = 0, .rank = rank};
        arithmetic.expert(l, demo_model().expert_blob(id), {&row, 1});
      }
      arithmetic.combine(l, 0, weights);
    }
    arithmetic.head();
    sum += negative_log_likelihood(arithmetic.logits(0), ids[i + 1]);
  }
  return sum / static_cast<double>(ids.size() - 1);
}

TEST(Sensitivity, IsTheLossThatARealAblatedPassHasMore) {
  const std::vector<std::int32_t> ids = demo_texts("learn.json", 1, 48)[3];
  ThreadPool pool(2);
  const Sensitivities measured = measure_sensitivities(demo_model(), pool, Texts{ids}, {});
  const double loss = plain_loss(ids, -1);
  EXPECT_NEAR(measured.loss, loss, 1e-5);
  for (int layer : {0, 5, 11}) {
    const LayerSensitivity& of_layer = measured.layers[static_cast<std::size_t>(layer)];
    EXPECT_NEAR(of_layer.loss_rise, plain_loss(ids, layer) - loss, 1e-5) << layer;
    EXPECT_GT(of_layer.mean_square, 0);
    EXPECT_LT(of_layer.mean_square, 0.25) << "the second of two weights is below one half";
    if (of_layer.loss_rise > 0) {
      EXPECT_DOUBLE_EQ(of_layer.weight(), 2 * of_layer.loss_rise / of_layer.mean_square);
    }
  }
}

TEST(Sensitivity, OfTheDemoModelIsPositiveInEveryLayerOverEnoughText) {
  ThreadPool pool(2);
  const Sensitivities measured = measure_sensitivities(demo_model(), pool, demo_texts("learn.json", 1, 96), {});
  for (const LayerSensitivity& layer : measured.layers) EXPECT_GT(layer.weight(), 0);
}

TEST(Importance, IsTheLossThatOneExpertInFewerBitsAdds) {
  ThreadPool pool(2);
  const Model& model = tiny_olmoe();
  const Texts texts = tiny_texts();
  const ExpertImportance measured = measure_importance(model, pool, texts, {});
  const ExpertVersions int4(model, Precision::int4), int2(model, Precision::int2);
  TextLoss loss(model, pool, texts, 1, {});
  std::set<std::pair<int, int>> used;
  loss.pass().set_versions([&](ExpertId id) {
    used.emplace(id.layer, id.expert);
    return &int4;
  });
  const double all_int4 = loss.measure();
  for (int l = 0; l < model.description().layers; ++l) {
    for (int e = 0; e < model.description().router.experts; ++e) {
      const double rise = measured.loss_rise[static_cast<std::size_t>(l)][static_cast<std::size_t>(e)];
      if (used.contains({l, e})) continue;
      EXPECT_EQ(rise, 0) << l << ", " << e << " runs for no token";
    }
  }
  const auto [layer, expert] = *used.begin();
  loss.pass().set_versions([&](ExpertId id) { return id.layer == layer && id.expert == expert ? &int2 : &int4; });
  EXPECT_DOUBLE_EQ(measured.loss_rise[static_cast<std::size_t>(layer)][static_cast<std::size_t>(expert)],
                   loss.measure() - all_int4);
}

TEST(Importance, TheLossRisesWithTheShareOfTheDemoModelsExpertsInFewerBits) {
  ThreadPool pool(2);
  const ExpertImportance measured =
      measure_importance(demo_model(), pool, Texts{demo_texts("learn.json", 1, 16)[0]}, {});
  EXPECT_EQ(measured.int8_int4.back(), measured.int4_int2.front()) << "both have every expert in int4";
  EXPECT_GT(measured.int4_int2.back(), measured.int4_int2.front());
}

TEST(Learn, RoutingPathBeatsFrequencyOnTextsItWasNotTrainedOn) {
  ThreadPool pool(2);
  LearnRule rule = quick(0, 1);
  rule.sensitivity_tokens = rule.importance_tokens = 0;
  rule.routing_path.epochs = 8;
  const Prior prior = learn(demo_model(), pool, "a test", demo_texts("learn.json", 2, 256), rule, {}).prior;
  const RecordedTexts others = record_texts(demo_model(), pool, demo_texts("workloads.json", 1, 128), {}, {});
  const std::vector<PredictionRecall> recalls = judge_predictions(prior, others);
  std::map<std::string, double> mean;
  for (const PredictionRecall& r : recalls) mean[r.predictor] = r.mean;
  EXPECT_GT(mean["routing path"], mean["popularity"] + 0.1);
  EXPECT_GT(mean["routing path"], mean["transitions"]);
  EXPECT_GT(mean["gate ahead"], mean["popularity"]);
  EXPECT_FALSE(prior.has_sensitivity());
}

TEST(Learn, StopsWhenItIsTold) {
  ThreadPool pool(1);
  const auto stop = [](const char* stage, std::int64_t, std::int64_t) { return std::string(stage) != "predictor"; };
  EXPECT_THROW(learn(tiny_olmoe(), pool, "a test", tiny_texts(), quick(4, 1), stop), RunError);
}

TEST(Learn, RefusesToGenerateMoreThanTheContextHolds) {
  ThreadPool pool(1);
  EXPECT_THROW(learn(tiny_olmoe(), pool, "a test", tiny_texts(), quick(1 << 20, 1), {}), InputError);
}

}  // namespace
}  // namespace expertscope
