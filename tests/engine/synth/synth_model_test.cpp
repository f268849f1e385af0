// Whole files of random weights, read by the engine's own loader and forward pass.
#include "engine/synth/synth_model.h"

#include <cmath>
#include <fstream>
#include <set>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "engine/error.h"
#include "engine/model/kernels.h"
#include "engine/synth/random_blocks.h"
#include "tests/engine/model/forward_pass.h"
#include "tests/engine/synth/synth_fixture.h"

namespace expertscope {
namespace {

using Synth = SynthTest;
constexpr TensorType kTypes[] = {TensorType::q8_0, TensorType::q4_0, TensorType::q4_k, TensorType::q5_k,
                                 TensorType::q6_k, TensorType::f16,  TensorType::bf16};
constexpr std::string_view kArchitectures[] = {"mixtral-8x7b", "qwen3-30b-a3b", "olmoe-1b-7b"};

std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::int32_t> ids_of(const SynthPaths& paths) {
  return nlohmann::json::parse(read_text(paths.ids)).get<std::vector<std::int32_t>>();
}

struct Moments {
  double mean = 0, deviation = 0;
};
Moments moments_of(const WeightMatrix& m) {
  std::vector<float> row(static_cast<std::size_t>(m.view().cols));
  double sum = 0, squares = 0, n = 0;
  for (int r = 0; r < m.view().rows; ++r) {
    dequantise_row(m.view(), r, row.data());
    for (const float x : row) {
      sum += static_cast<double>(x);
      squares += static_cast<double>(x) * static_cast<double>(x);
      ++n;
    }
  }
  return {sum / n, std::sqrt(squares / n - sum / n * sum / n)};
}

TEST_F(Synth, EveryArchitectureInEveryTypeLoadsAndHasWeightsOfTheRightSize) {
  for (const std::string_view shape : kArchitectures) {
    for (const TensorType type : kTypes) {
      SCOPED_TRACE(std::string(shape) + " " + std::string(name(type)));
      const SynthRequest request{.shape = small(shape), .type = type};
      const SynthResult result = write(request);
      EXPECT_EQ(static_cast<std::uintmax_t>(result.file_bytes), std::filesystem::file_size(paths().model));
      const Model model(paths().model);
      const ModelDescription& d = model.description();
      EXPECT_EQ(d.architecture, request.shape.architecture);
      EXPECT_EQ(d.router.experts, request.shape.experts);
      EXPECT_EQ(d.router.top_k, request.shape.top_k);
      EXPECT_EQ(d.expert_ff, request.shape.expert_ff);
      EXPECT_EQ(model.layer(1).q.view().type, type);
      const Moments into = moments_of(model.head()), out_of = moments_of(model.layer(1).output);
      EXPECT_NEAR(into.deviation, 0.025, 0.025 * 0.04);
      EXPECT_NEAR(out_of.deviation, 0.025 / 2, 0.025 / 2 * 0.1) << "divided by sqrt(2 * 2 layers)";
      EXPECT_LT(std::abs(into.mean), 0.13 * into.deviation);
    }
  }
}

TEST_F(Synth, TrueShapesHaveTheirParametersAndFilesTheirKnownSizes) {
  const auto sizes_of = [](std::string_view name, TensorType type) {
    const SynthRequest request{.shape = find_synth_shape(name), .type = type};
    const PlantedRouting planted(request.shape, request.routing, 0);
    const SynthPlan plan(request, planted);
    double values = 0;
    for (const GgufLayout::Tensor& t : plan.layout().tensors()) values += static_cast<double>(t.values);
    return std::pair(values / 1e9, static_cast<double>(plan.layout().data_bytes()) / 1e9);
  };
  EXPECT_NEAR(sizes_of("mixtral-8x7b", TensorType::q4_k).first, 46.70, 0.005);
  EXPECT_NEAR(sizes_of("mixtral-8x7b", TensorType::q4_k).second, 26.5, 0.1);
  EXPECT_NEAR(sizes_of("qwen3-30b-a3b", TensorType::q4_k).first, 30.53, 0.005);
  EXPECT_NEAR(sizes_of("qwen3-30b-a3b", TensorType::q4_k).second, 17.6, 0.1);
  EXPECT_NEAR(sizes_of("qwen3-30b-a3b", TensorType::q8_0).second, 32.7, 0.1);
  EXPECT_NEAR(sizes_of("olmoe-1b-7b", TensorType::q4_k).first, 6.92, 0.005);
  EXPECT_NEAR(sizes_of("olmoe-1b-7b", TensorType::q4_k).second, 4.0, 0.1);
}

TEST_F(Synth, AnEngineFindsThePlantedRoutesUnlessTwoExpertsAreNearlyTied) {
  for (const std::string_view shape : kArchitectures) {
    for (const SynthRouting routing :
         {SynthRouting::uniform, SynthRouting::zipf, SynthRouting::bursty, SynthRouting::drift}) {
      SCOPED_TRACE(std::string(shape) + " " + std::string(name(routing)));
      const RoutingStatistics planted = write({.shape = small(shape, 3), .routing = routing}).routing;
      const Model model(paths().model);
      ThreadPool threads(2);
      ModelSteps pass(model, threads);
      const std::vector<std::int32_t> ids = ids_of(paths());
      pass.step(std::span(ids).first(planted.first.size()));
      int clear = 0, ties = 0;
      for (std::size_t t = 0; t < planted.first.size(); ++t) {
        for (std::size_t l = 0; l < 3; ++l) {
          if (planted.first[t][l].margin < 0.05F) {
            ++ties;
            continue;
          }
          ++clear;
          auto found = pass.picks[l][t].ids, expected = planted.first[t][l].experts;
          std::ranges::sort(found);
          std::ranges::sort(expected);
          EXPECT_EQ(found, expected) << "token " << t << " layer " << l;
        }
      }
      EXPECT_GT(clear, 2 * ties);
      for (const float logit : pass.logits()) ASSERT_TRUE(std::isfinite(logit));
    }
  }
}

TEST_F(Synth, NoTwoExpertsAreEqual) {
  for (const TensorType type : {TensorType::q4_k, TensorType::f16}) {
    write({.shape = small("qwen3-30b-a3b"), .type = type});
    const Model model(paths().model);
    std::set<std::string> blobs;
    for (std::uint16_t l = 0; l < 2; ++l) {
      for (std::uint16_t e = 0; e < 32; ++e) {
        const auto blob = model.expert_blob({l, e});
        blobs.emplace(reinterpret_cast<const char*>(blob.data()), blob.size());
      }
    }
    EXPECT_EQ(blobs.size(), 64U);
  }
}

TEST_F(Synth, TheFilesAreTheSameForEveryNumberOfThreadsAndOthersForAnotherSeed) {
  const SynthRequest request{.shape = find_synth_shape("tiny"), .type = TensorType::q6_k};
  write(request, "a.gguf", 1);
  write(request, "b.gguf", 5);
  SynthRequest other = request;
  other.seed = 1;
  write(other, "c.gguf");
  EXPECT_TRUE(read_text(paths("a.gguf").model) == read_text(paths("b.gguf").model));
  EXPECT_FALSE(read_text(paths("a.gguf").model) == read_text(paths("c.gguf").model));
  EXPECT_EQ(read_text(paths("a.gguf").ids), read_text(paths("b.gguf").ids));
  EXPECT_EQ(read_text(paths("a.gguf").routing), read_text(paths("b.gguf").routing));
  EXPECT_NE(read_text(paths("a.gguf").ids), read_text(paths("c.gguf").ids));
}

TEST_F(Synth, TheFileSaysWhatItIsAndHowToMakeItAgain) {
  write({.shape = find_synth_shape("tiny"), .routing = SynthRouting::drift, .seed = 77});
  const GgufReader file(paths().model);
  EXPECT_EQ(file.find_string("general.synth.shape"), "tiny");
  EXPECT_EQ(file.find_string("general.synth.type"), "q8_0");
  EXPECT_EQ(file.find_string("general.synth.routing"), "drift");
  EXPECT_EQ(file.find_integer("general.synth.seed"), 77);
  EXPECT_EQ(file.find_integer("general.synth.version"), kSynthVersion);
}

TEST_F(Synth, ItsTokenizerReadsBackItsOwnWords) {
  write({.shape = find_synth_shape("tiny")});
  const Model model(paths().model);
  ASSERT_TRUE(model.has_tokenizer());
  const std::vector<std::int32_t> ids = {300, 301, 999};
  EXPECT_EQ(model.tokenizer().decode(ids, false), " t300 t301 t999");
}

TEST_F(Synth, FilesOfAnEarlierRunAreReplacedAndThoseOfOthersAreNot) {
  write({.shape = find_synth_shape("tiny")});
  write({.shape = find_synth_shape("tiny"), .seed = 1});
  EXPECT_EQ(files(), 3U);

  std::ofstream(paths("notes.gguf").model) << "my notes";
  EXPECT_THROW(write({.shape = find_synth_shape("tiny")}, "notes.gguf"), InputError);
  EXPECT_EQ(read_text(paths("notes.gguf").model), "my notes");

  std::ofstream(paths("lonely.gguf").ids) << "[1,2,3]";
  EXPECT_THROW(write({.shape = find_synth_shape("tiny")}, "lonely.gguf"), InputError);
  EXPECT_EQ(read_text(paths("lonely.gguf").ids), "[1,2,3]");
  EXPECT_EQ(files(), 5U);
}

TEST_F(Synth, ARunThatIsInterruptedLeavesNothing) {
  std::int64_t seen = 0;
  EXPECT_THROW(write_synthetic_model({.shape = find_synth_shape("tiny")}, paths(), 2,
                                     [&](std::int64_t done, std::int64_t all) {
                                       EXPECT_LE(done, all);
                                       seen = done;
                                       return done < 3'000'000;
                                     }),
               RunError);
  EXPECT_GE(seen, 3'000'000);
  EXPECT_EQ(files(), 0U);
}

TEST_F(Synth, PathsAreRefusedBeforeAnythingIsWritten) {
  EXPECT_THROW(synth_paths(folder_ / "model"), InputError);
  EXPECT_THROW(synth_paths(folder_ / "model.bin"), InputError);
  EXPECT_THROW(write({.shape = find_synth_shape("tiny")}, "no/such/folder.gguf"), InputError);
  EXPECT_EQ(paths("a.b.gguf").ids.filename(), "a.b.ids.json");
}

}  // namespace
}  // namespace expertscope
