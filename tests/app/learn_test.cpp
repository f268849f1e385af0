// `learn`, and what runs make of a prior.
#include <gmock/gmock.h>

#include "engine/policy/prior.h"
#include "tests/app/program.h"

namespace expertscope::testing {
namespace {

using Json = nlohmann::json;
using ::testing::HasSubstr;

class Learn : public ProgramTest {
 protected:
  Arguments learn(const std::string& out, Arguments extra, const char* generate = "16") const {
    Arguments arguments = {"learn",
                           asset("model/tidepool-42m-moe-q8_0.gguf"),
                           "--prompts",
                           write("few.txt", "Once upon a time\nint main(void) {\n"),
                           "--out",
                           path(out),
                           "--generate",
                           generate,
                           "--sensitivity-tokens",
                           "8",
                           "--importance-tokens",
                           "4"};
    arguments.insert(arguments.end(), extra.begin(), extra.end());
    return arguments;
  }
  std::string few() const { return write("other.txt", "The king had three sons\n"); }
};

const std::string kShipped = "model/tidepool-42m-moe.prior.json";

TEST_F(Learn, WritesAPriorThatRunsTake) {
  const Outcome outcome = run_program(learn("p.json", {"--judge", few()}));
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "") << "no progress line in a pipe";
  for (const char* row :
       {"popularity", "transitions", "gate ahead", "routing path", "sensitivity w", "int4, fewer: int2"})
    EXPECT_THAT(outcome.out, HasSubstr(row));
  EXPECT_EQ(load_prior(path("p.json"), 12, 16).activations.size(), 2u);
  const Json report = capture("a.expertscope", {"--policy", "static", "--prior", path("p.json")});
  EXPECT_FALSE(report["health"].contains("static.no_prior"));
  EXPECT_FALSE(report["health"].contains("prior.other_model"));
}

TEST_F(Learn, GivesTheSameFileWithEveryNumberOfThreads) {
  ASSERT_EQ(run_program(learn("one.json", {"--threads", "1", "--judge", few()})).exit_code, 0);
  ASSERT_EQ(run_program(learn("two.json", {"--threads", "2", "--judge", few()})).exit_code, 0);
  EXPECT_EQ(read_text(path("one.json")), read_text(path("two.json")));
}

TEST_F(Learn, RefusesWhatItCannotLearnFrom) {
  expect_refused(learn("none/p.json", {}), "--out");
  expect_refused(learn("p.json", {}, "1024"), "context");
  expect_refused(learn("p.json", {"--judge", path("none.json")}), "--judge");
  expect_refused({"learn", asset("model/learn.json"), "--prompts", asset("model/learn.json"), "--out", path("p.json")},
                 "learn.json");
}

TEST_F(Learn, TheShippedPriorIsOfTheDemoModelAndSmall) {
  const Prior prior = load_prior(asset(kShipped), 12, 16);
  EXPECT_EQ(prior.activations.size(), 48u);
  EXPECT_TRUE(prior.has_routing_path() && prior.has_sensitivity() && prior.has_importance() && prior.has_transitions());
  EXPECT_EQ(prior.routing_path.embedding.rows, 8192);
  EXPECT_LT(read_text(asset(kShipped)).size(), 310'000u);
}

TEST_F(Learn, ASessionReplaysWithItsOwnPriorAndWithTheIdsItForwarded) {
  for (const char* policy : {"lookahead:predictor=routing-path", "static", "expertflow"}) {
    SCOPED_TRACE(policy);
    const Json report = capture("a.expertscope", {"--policy", policy, "--prior", asset(kShipped), "--tokens", "48"});
    EXPECT_FALSE(report["health"].contains("prior.other_model"));
    const Outcome outcome = run_program({"replay", path("a.expertscope"), "--policies", "recorded", "--json"});
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    const Json result = Json::parse(outcome.out)["results"][0];
    EXPECT_EQ(result["experts"], report["experts"]);
    EXPECT_EQ(result["transfers"], report["transfers"]);
    EXPECT_EQ(result["decode"]["seconds"], report["decode"]["seconds"]);
  }
}

TEST_F(Learn, WithAPriorTheRoutingPathHasExpertsOnTheirWayBeforeTheyAreAskedFor) {
  const auto missed = [&](const Arguments& arguments) {
    return capture("a.expertscope", arguments)["experts"]["decode"]["misses"].get<int>();
  };
  const std::string policy = "lookahead:predictor=routing-path";
  const int uninformed = missed({"--policy", policy, "--tokens", "64"});
  EXPECT_EQ(uninformed, missed({"--policy", "on-demand", "--tokens", "64"})) << "it predicts nothing";
  EXPECT_LT(missed({"--policy", policy, "--tokens", "64", "--prior", asset(kShipped)}), uninformed * 2 / 3);
}

TEST_F(Learn, APresetThatWantsAPriorSaysThatItHasNone) {
  const Json uninformed = capture("a.expertscope", {"--policy", "lookahead:predictor=routing-path"});
  EXPECT_THAT(uninformed["health"]["lookahead.no_prior"]["text"].get<std::string>(), HasSubstr("--prior"));
  const std::string popularity_alone =
      write("hand.json", Json{{"source", "by hand"},
                              {"popularity", Json(std::vector<std::vector<double>>(12, std::vector<double>(16, 1)))}}
                             .dump());
  const Json partly =
      capture("a.expertscope", {"--policy", "lookahead:predictor=routing-path", "--prior", popularity_alone});
  EXPECT_THAT(partly["health"]["lookahead.no_prior"]["text"].get<std::string>(), HasSubstr("popularity"));
}

TEST_F(Learn, APriorOfAnotherModelIsUsedAndHealthSaysSo) {
  Json other = Json::parse(read_text(asset(kShipped)));
  other["model"]["sha256"] = "0123";
  const std::string file = write("other.json", other.dump());
  const Json report = capture("a.expertscope", {"--policy", "static", "--prior", file});
  EXPECT_TRUE(report["health"].contains("prior.other_model"));
  const Outcome outcome =
      run_program({"replay", path("a.expertscope"), "--policies", "static", "--prior", file, "--json"});
  EXPECT_TRUE(Json::parse(outcome.out)["health"].contains("prior.other_model"));
}

TEST_F(Learn, APriorOfOtherShapesIsRefused) {
  Json other = Json::parse(read_text(asset(kShipped)));
  other["popularity"].erase(0);
  expect_refused({"capture", "--out", path("a.expertscope"), "--prior", write("other.json", other.dump())},
                 "popularity");
}

}  // namespace
}  // namespace expertscope::testing
