// Models made by the program, and what offloading them shows.
#include <gmock/gmock.h>
#include <sys/resource.h>

#include "tests/app/program.h"

namespace expertscope::testing {
namespace {

using Json = nlohmann::json;

class Synth : public ProgramTest {
 protected:
  Outcome synth(const std::string& routing, const std::string& type = "q8_0") const {
    return run_program(
        {"synth", "--shape", "tiny", "--type", type, "--routing", routing, "--out", path(routing + ".gguf")});
  }
  // Tokens beyond the context of 1,024, so that its shift is in it.
  double hit_rate(const std::string& routing, const std::string& policy = "on-demand") const {
    const Outcome outcome =
        run_program({"capture", "--model", path(routing + ".gguf"), "--ids-file", path(routing + ".ids.json"),
                     "--forced", "--policy", policy, "--cache-ratio", "0.25", "--tokens", "1200", "--machine",
                     "emulated:rtx4090-pcie4", "--out", path("a.expertscope"), "--json", "-"});
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    const Json report = Json::parse(outcome.out);
    EXPECT_EQ(report["decode"]["tokens"], 1199);
    return report["experts"]["decode"]["hit_rate"];
  }
};

TEST_F(Synth, UniformRoutingHitsAsOftenAsTheCacheIsLargeAndBurstyRoutingMore) {
  for (const char* routing : {"uniform", "bursty"}) {
    const Outcome outcome = synth(routing);
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_EQ(outcome.err, "");
    EXPECT_THAT(outcome.out, ::testing::HasSubstr(std::string(routing) + ".ids.json"));
    EXPECT_GE(Json::parse(read_text(path(std::string(routing) + ".ids.json"))).size(), 4096U);
  }
  const double uniform = hit_rate("uniform"), bursty = hit_rate("bursty");
  EXPECT_GE(uniform, 0.2);
  EXPECT_LE(uniform, 0.33);
  EXPECT_GE(bursty, 0.45);
}

TEST_F(Synth, WhatIsNotKnownIsRefusedWithWhatIs) {
  const auto refused = [&](const char* shape, const char* type, const char* routing, const std::string& out,
                           const std::string& mention) {
    expect_refused({"synth", "--shape", shape, "--type", type, "--routing", routing, "--out", out}, mention);
  };
  refused("gpt", "q8_0", "bursty", path("a.gguf"), "mixtral-8x7b");
  refused("tiny", "q2_k", "bursty", path("a.gguf"), "q6_k");
  refused("tiny", "q8_0", "random", path("a.gguf"), "uniform");
  refused("tiny", "q8_0", "bursty", path("a.bin"), ".gguf");
  refused("tiny", "q8_0", "bursty", write("mine.gguf", "my notes"), "was not written by synth");
  expect_refused({"synth", "--shape", "tiny", "--type", "q8_0", "--routing", "bursty"}, "--out");
  expect_refused(
      {"synth", "--shape", "tiny", "--type", "q8_0", "--routing", "bursty", "--out", path("a.gguf"), "--tokens", "100"},
      "4096");
}

TEST_F(Synth, AFullDiskIsAMessageAndLeavesNothing) {
  const Outcome outcome = run_program(
      {"synth", "--shape", "tiny", "--type", "q8_0", "--routing", "bursty", "--out", path("full.gguf")}, [] {
        const rlimit limit{3 << 20, 3 << 20};  // files cannot grow: writes fail as on a full disk
        setrlimit(RLIMIT_FSIZE, &limit);
      });
  EXPECT_EQ(outcome.exit_code, 1) << outcome.err;
  EXPECT_THAT(outcome.err, ::testing::HasSubstr("full.gguf"));
  EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
  for (const char* name : {"full.gguf", "full.gguf.part", "full.ids.json"})
    EXPECT_FALSE(std::filesystem::exists(path(name))) << name;
}

TEST_F(Synth, AModelThatDoesNotFitTheDiskIsRefusedAtOnce) {
  // 93 GB of float16: more than most test machines have to spare.
  const auto there = std::filesystem::space(folder_).available;
  if (there > 93'000'000'000U) GTEST_SKIP() << "this disk would hold it";
  const Outcome outcome = run_program(
      {"synth", "--shape", "mixtral-8x7b", "--type", "f16", "--routing", "bursty", "--out", path("big.gguf")});
  EXPECT_EQ(outcome.exit_code, 1) << outcome.err;
  EXPECT_THAT(outcome.err, ::testing::HasSubstr("needs 93"));
  EXPECT_FALSE(std::filesystem::exists(path("big.gguf")));
}

}  // namespace
}  // namespace expertscope::testing
