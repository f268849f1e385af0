// What `capture` promises: a session, a report, an exit code that means something, and the same again for the same
// command.
#include <chrono>
#include <thread>

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/wait.h>

#include "tests/app/program.h"

namespace expertscope::testing {
namespace {

using Json = nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

class Capture : public ProgramTest {};

TEST_F(Capture, WithJsonDashLeavesStandardOutputToTheReport) {
  const Outcome outcome = run_program({"capture", "--tokens", "8", "--out", path("a.expertscope"), "--json", "-"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_FALSE(Json::parse(outcome.out, nullptr, false).is_discarded());
  EXPECT_EQ(outcome.err, "") << "no progress line in a pipe";
}

TEST_F(Capture, WritesTheReportToAFile) {
  const Outcome outcome =
      run_program({"capture", "--tokens", "8", "--out", path("a.expertscope"), "--json", path("report.json")});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("tok/s"));
  EXPECT_EQ(Json::parse(read_text(path("report.json")))["output"]["token_ids"].size(), 8u);
}

TEST_F(Capture, ReportOfTheFileIsTheReportOfTheRun) {
  const Json report = capture("a.expertscope", {"--record-logits", "4"});
  const Outcome again = run_program({"report", path("a.expertscope"), "--json"});
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_EQ(Json::parse(again.out), report);
}

TEST_F(Capture, HasTheKeysThatScriptsRelyOn) {
  const Json report = capture("a.expertscope", {});
  for (const char* pointer : {"/schema_version",
                              "/model/name",
                              "/model/arch",
                              "/model/file_sha256",
                              "/machine/kind",
                              "/machine/profile",
                              "/machine/cost_shape",
                              "/machine/label",
                              "/policy/preset",
                              "/policy/spec",
                              "/policy/components/evictor",
                              "/cache/ratio",
                              "/cache/bytes",
                              "/cache/slots",
                              "/memory/gpu_peak_bytes",
                              "/memory/experts_bytes",
                              "/memory/dense_bytes",
                              "/memory/kv_bytes",
                              "/memory/staging_bytes",
                              "/memory/profiler_bytes",
                              "/memory/host_bytes",
                              "/prefill/tokens",
                              "/prefill/seconds",
                              "/prefill/tokens_per_s",
                              "/prefill/first_token_s",
                              "/decode/tokens",
                              "/decode/seconds",
                              "/decode/tokens_per_s",
                              "/decode/token_seconds/p50",
                              "/decode/token_seconds/p90",
                              "/decode/token_seconds/p99",
                              "/decode/label",
                              "/experts/prefill/picks",
                              "/experts/decode/demands",
                              "/experts/decode/hits",
                              "/experts/decode/late",
                              "/experts/decode/misses",
                              "/experts/decode/hit_rate",
                              "/experts/decode/gpu",
                              "/experts/decode/fetched",
                              "/experts/decode/streamed",
                              "/experts/decode/cpu",
                              "/experts/decode/cpu_early",
                              "/experts/decode/skipped",
                              "/experts/decode/substituted",
                              "/experts/decode/low_precision",
                              "/transfers/count",
                              "/transfers/bytes",
                              "/transfers/demand_bytes",
                              "/transfers/prefetch_bytes",
                              "/transfers/promotion_bytes",
                              "/transfers/placement_bytes",
                              "/transfers/wasted_prefetch_bytes",
                              "/transfers/other_h2d_bytes",
                              "/transfers/d2h_bytes",
                              "/transfers/seconds",
                              "/overlap/gpu_busy_share",
                              "/overlap/copy_hidden_share",
                              "/overlap/cpu_hidden_share",
                              "/attribution_seconds_per_token/gpu_compute",
                              "/attribution_seconds_per_token/cpu_experts",
                              "/attribution_seconds_per_token/demand_wait",
                              "/attribution_seconds_per_token/prefetch_wait",
                              "/attribution_seconds_per_token/routing_sync",
                              "/attribution_seconds_per_token/policy",
                              "/attribution_seconds_per_token/sampling",
                              "/attribution_seconds_per_token/profiler",
                              "/attribution_seconds_per_token/remainder",
                              "/quality/perplexity",
                              "/quality/kl_mean",
                              "/quality/top1_agreement",
                              "/quality/inexact_tokens",
                              "/output/prompts/0/workload",
                              "/output/prompts/0/text",
                              "/output/prompts/0/token_ids",
                              "/output/text",
                              "/output/token_ids",
                              "/epochs/0",
                              "/health",
                              "/wall"}) {
    EXPECT_TRUE(report.contains(Json::json_pointer(pointer))) << pointer;
  }
}

TEST_F(Capture, GeneratesExactlyTheTokensThatWereAskedFor) {
  const std::string prompts =
      write("prompts.json", R"json({"tale": ["Once upon a time", "The king"], "c": ["int main(void)"]})json");
  const Json report = capture("a.expertscope", {"--prompts", prompts, "--tokens", "5"});
  ASSERT_EQ(report["output"]["prompts"].size(), 3u);
  for (const Json& prompt : report["output"]["prompts"]) EXPECT_EQ(prompt["token_ids"].size(), 5u);
  EXPECT_EQ(report["output"]["prompts"][2]["workload"], "c");
  EXPECT_FALSE(report["output"].contains("token_ids")) << "only for a single prompt";
  EXPECT_EQ(report["decode"]["tokens"], 3 * 4) << "the first token of a prompt belongs to prefill";
}

TEST_F(Capture, IdsAreForwardedWithoutATokenOfOurOwn) {
  const Json report = capture("a.expertscope", {"--prompt-ids", "1,7053,921"});
  EXPECT_EQ(report["prefill"]["tokens"], 3);
  EXPECT_EQ(report, Json::parse(run_program({"report", path("a.expertscope"), "--json"}).out));
  const Json from_file = capture("b.expertscope", {"--ids-file", write("ids.json", "[1, 7053, 921]")});
  EXPECT_EQ(from_file["output"]["token_ids"], report["output"]["token_ids"]);
}

TEST_F(Capture, OnSeveralGpusSaysHowPicksAreSpreadAndReplaysExactly) {
  const Json report =
      capture("a.expertscope", {"--machine", "emulated:a6000x4-pcie4", "--policy", "expert-buffering", "--prior",
                                asset("model/tidepool-42m-moe.prior.json"), "--sequences", "4"});
  EXPECT_EQ(report["balance"]["gpus"], 4);
  for (const char* phase : {"prefill", "decode"}) {
    const Json& load = report["balance"][phase];
    EXPECT_GT(load["mean_largest_load"], 0.25) << phase;
    EXPECT_LE(load["mean_largest_load"], load["maximum_load"]) << phase;
    EXPECT_LE(load["maximum_load"], 1) << phase;
  }
  for (const auto& [code, note] : report["health"].items()) EXPECT_FALSE(code.starts_with("identity.")) << note;
  EXPECT_EQ(Json::parse(run_program({"report", path("a.expertscope"), "--json"}).out), report);
  Json replay = Json::parse(run_program({"replay", path("a.expertscope"), "--policies", "recorded", "--json"}).out);
  EXPECT_EQ(replay["results"][0]["decode"]["label"], "SIMULATED");
  replay["results"][0]["decode"]["label"] = replay["recorded"]["decode"]["label"];
  for (const char* block : {"experts", "transfers", "decode", "balance", "memory"})
    EXPECT_EQ(replay["results"][0][block], replay["recorded"][block]) << block;
}

TEST_F(Capture, SameCommandGivesTheSameSessionForEveryNumberOfThreads) {
  const Arguments common = {"--tokens",      "24",  "--policy", "lookahead", "--cache-ratio", "0.25",
                            "--temperature", "0.8", "--seed",   "7"};
  const auto with_threads = [&](const char* threads) {
    Arguments arguments = common;
    arguments.insert(arguments.end(), {"--threads", threads});
    return arguments;
  };
  const Json first = capture("a.expertscope", with_threads("2"));
  const Json again = capture("b.expertscope", with_threads("2"));
  const Json single = capture("c.expertscope", with_threads("1"));
  EXPECT_EQ(without_wall(first), without_wall(again));
  EXPECT_EQ(without_wall(first), without_wall(single));
  const auto rows = rows_of(path("a.expertscope"));
  EXPECT_GT(rows.size(), 5u);
  for (const char* other : {"b.expertscope", "c.expertscope"}) {
    const auto other_rows = rows_of(path(other));
    ASSERT_EQ(rows.size(), other_rows.size());
    for (const auto& [table, content] : rows) EXPECT_EQ(content, other_rows.at(table)) << table;
  }
}

TEST_F(Capture, TheSeedDecidesTheDraw) {
  const Arguments warm = {"--tokens", "12", "--temperature", "1.2"};
  const auto seeded = [&](const char* seed) {
    Arguments arguments = warm;
    arguments.insert(arguments.end(), {"--seed", seed});
    return capture("a.expertscope", arguments)["output"]["token_ids"];
  };
  const Json one = seeded("1");
  EXPECT_EQ(one, seeded("1"));
  EXPECT_NE(one, seeded("2"));
}

TEST_F(Capture, ScriptChangesBecomeEpochsAndLeaveTheTextAsItIs) {
  const std::string script =
      write("script.json", R"([{"at_token": 6, "policy": "lookahead"}, {"at_token": 12, "set": {"evictor": "lfu"}},
                                                      {"at_token": 18, "cache_ratio": 0.5}])");
  const Json changed = capture("a.expertscope", {"--tokens", "24", "--script", script});
  const Json plain = capture("b.expertscope", {"--tokens", "24"});
  EXPECT_EQ(changed["output"]["token_ids"], plain["output"]["token_ids"]);
  const Json& epochs = changed["epochs"];
  ASSERT_EQ(epochs.size(), 4u);
  EXPECT_EQ(epochs[0]["at_token"], 0);
  EXPECT_EQ(epochs[0]["source"], "start");
  EXPECT_EQ(epochs[1]["at_token"], 6);
  EXPECT_EQ(epochs[1]["source"], "script");
  EXPECT_EQ(epochs[1]["policy"]["preset"], "lookahead");
  EXPECT_EQ(epochs[2]["at_token"], 12);
  EXPECT_EQ(epochs[2]["policy"]["components"]["evictor"], "lfu");
  EXPECT_EQ(epochs[3]["at_token"], 18);
  EXPECT_EQ(epochs[3]["cache"]["ratio"], 0.5);
  EXPECT_EQ(epochs[3]["cache"]["slots"], 96);
}

TEST_F(Capture, AScriptThatComesTooLateIsCountedInHealth) {
  const Json report = capture(
      "a.expertscope", {"--tokens", "4", "--script", write("s.json", R"([{"at_token": 400, "policy": "lfu"}])")});
  EXPECT_EQ(report["health"]["script.not_reached"]["count"], 1);
  EXPECT_EQ(report["epochs"].size(), 1u);
}

TEST_F(Capture, ExpectationsDecideTheExitCode) {
  const Arguments base = {"capture", "--tokens", "8", "--out", path("a.expertscope")};
  const auto with = [&](Arguments expectations) {
    Arguments arguments = base;
    for (const std::string& expectation : expectations) arguments.insert(arguments.end(), {"--expect", expectation});
    return run_program(arguments);
  };
  EXPECT_EQ(with({"decode.tokens_per_s > 0", "experts.decode.skipped == 0"}).exit_code, 0);
  const Outcome failed = with({"decode.tokens_per_s >= 1e12", "decode.tokens == 7", "epochs.0.decode.tokens < 1"});
  EXPECT_EQ(failed.exit_code, 3);
  EXPECT_THAT(failed.err, HasSubstr("decode.tokens_per_s >= 1e12"));
  EXPECT_THAT(failed.err, HasSubstr("epochs.0.decode.tokens < 1"));
  EXPECT_THAT(failed.err, Not(HasSubstr("decode.tokens == 7")));
}

TEST_F(Capture, TextReportsAPerplexity) {
  const std::string text = write("text.txt", read_text(asset("model/eval_prose.txt")).substr(0, 1500));
  const Json report = capture("a.expertscope", {"--text", text});
  EXPECT_GT(report["quality"]["perplexity"].get<double>(), 2);
  EXPECT_LT(report["quality"]["perplexity"].get<double>(), 200);
  EXPECT_EQ(report["decode"]["tokens"], 0);
}

TEST_F(Capture, ForcedDecodesAlongTheGivenIds) {
  const Json report = capture("a.expertscope", {"--prompt-ids", "1,7053,921,262,766", "--forced"});
  EXPECT_EQ(report["output"]["token_ids"], Json({7053, 921, 262, 766}));
  EXPECT_EQ(report["decode"]["tokens"], 3);
}

TEST_F(Capture, WithoutARecorderItNeedsNoFileAndClaimsNoNumbers) {
  const Outcome outcome = run_program({"capture", "--profile", "off", "--tokens", "8", "--json", "-"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  const Json report = Json::parse(outcome.out);
  EXPECT_EQ(report["output"]["token_ids"], capture("a.expertscope", {"--tokens", "8"})["output"]["token_ids"]);
  EXPECT_TRUE(report["decode"]["tokens_per_s"].is_null());
  EXPECT_TRUE(report["health"].contains("profile.off"));
  EXPECT_GT(report["wall"]["computed_tokens_per_s"].get<double>(), 0);
}

TEST_F(Capture, CostShapeDefaultsByModel) {
  EXPECT_EQ(capture("a.expertscope", {"--tokens", "2"})["machine"]["cost_shape"], "mixtral-8x7b-q4");
  std::filesystem::copy_file(asset("model/tidepool-42m-moe-q8_0.gguf"), path("copy.gguf"));
  EXPECT_EQ(capture("b.expertscope", {"--tokens", "2", "--model", path("copy.gguf")})["machine"]["cost_shape"],
            "mixtral-8x7b-q4")
      << "known by its content";
  EXPECT_EQ(capture("c.expertscope", {"--tokens", "2", "--cost-shape", "own"})["machine"]["cost_shape"], "own");
}

TEST_F(Capture, AnInterruptedRunIsClosedInOrder) {
  const pid_t child =
      start_program({"capture", "--tokens", "100000", "--out", path("a.expertscope"), "--json", path("report.json")},
                    path("out"), path("err"));
  const auto decoded = [&] {
    const Json so_far = Json::parse(run_program({"report", path("a.expertscope"), "--json"}).out, nullptr, false);
    return so_far.is_object() ? so_far["decode"]["tokens"].get<int>() : 0;
  };
  for (int i = 0; i < 200 && decoded() == 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  kill(child, SIGINT);
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(exit_code_of(status), 1);
  EXPECT_THAT(read_text(path("err")), HasSubstr("stopped by"));
  const Json report = Json::parse(run_program({"report", path("a.expertscope"), "--json"}).out);
  EXPECT_GT(report["decode"]["tokens"].get<int>(), 0);
  EXPECT_TRUE(report["health"].contains("run.interrupted"));
  EXPECT_FALSE(report["health"].contains("session.not_ended"));
  EXPECT_EQ(Json::parse(read_text(path("report.json"))), report);
}

}  // namespace
}  // namespace expertscope::testing
