#include "profiler/report.h"

#include <gtest/gtest.h>

#include "engine/error.h"
#include "profiler/expectation.h"
#include "tests/profiler/sample_run.h"

namespace expertscope {
namespace {

TEST(Report, HasAllItsStableKeys) {
  const auto report = make_report(test::sample_trace());
  const auto has = [&](const std::string& block, const std::string& keys) {
    std::string_view rest = keys;
    while (!rest.empty()) {
      const auto end = rest.find(',');
      const auto path = nlohmann::json::json_pointer("/" + block + "/" + std::string(rest.substr(0, end)));
      EXPECT_TRUE(report.contains(nlohmann::ordered_json::json_pointer(path.to_string()))) << path.to_string();
      rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
    }
  };
  has("model", "name,arch,file_sha256");
  has("machine", "kind,profile,cost_shape,label");
  has("policy", "preset,spec,components");
  has("cache", "ratio,bytes,slots");
  has("memory", "gpu_peak_bytes,experts_bytes,dense_bytes,kv_bytes,staging_bytes,profiler_bytes,host_bytes");
  has("prefill", "tokens,seconds,tokens_per_s,first_token_s");
  has("decode", "tokens,seconds,tokens_per_s,label");
  has("decode/token_seconds", "p50,p90,p99");
  for (const char* phase : {"experts/prefill", "experts/decode"}) {
    has(phase,
        "picks,demands,hits,late,misses,hit_rate,gpu,fetched,streamed,cpu,cpu_early,skipped,substituted,low_precision");
  }
  has("transfers",
      "count,bytes,demand_bytes,prefetch_bytes,promotion_bytes,placement_bytes,wasted_prefetch_bytes,other_h2d_bytes,"
      "d2h_bytes,"
      "seconds");
  has("overlap", "gpu_busy_share,copy_hidden_share,cpu_hidden_share");
  has("attribution_seconds_per_token",
      "gpu_compute,cpu_experts,demand_wait,prefetch_wait,routing_sync,policy,sampling,profiler,remainder");
  has("quality", "perplexity,kl_mean,top1_agreement,inexact_tokens");
  has("output", "prompts");
  for (const char* key : {"schema_version", "epochs", "health", "wall"}) EXPECT_TRUE(report.contains(key)) << key;
}

TEST(Report, AgreesWithWhatWasEmitted) {
  const auto report = make_report(test::sample_trace(20));
  EXPECT_EQ(report["prefill"]["tokens"], 6);
  EXPECT_EQ(report["decode"]["tokens"], 38);  // the first token of each prompt belongs to prefill
  EXPECT_EQ(report["policy"]["preset"], "on-demand");
  EXPECT_EQ(report["epochs"].size(), 2u);
  EXPECT_EQ(report["epochs"][1]["at_token"], 20);
  EXPECT_EQ(report["epochs"][1]["policy"]["spec"], "lfu");
  EXPECT_EQ(report["output"]["prompts"].size(), 2u);
  EXPECT_EQ(report["output"]["prompts"][0]["token_ids"].size(), 20u);
  EXPECT_EQ(report["output"]["prompts"][0]["logits"][1][0], 7);
  EXPECT_NEAR(report["quality"]["perplexity"].get<double>(), std::exp(1.25), 1e-12);
  EXPECT_NEAR(report["quality"]["kl_mean"].get<double>(), 0.15, 1e-12);
  EXPECT_NEAR(report["quality"]["top1_agreement"].get<double>(), 0.8, 1e-12);
  double parts = 0;
  for (const auto& [name, seconds] : report["attribution_seconds_per_token"].items()) parts += seconds.get<double>();
  EXPECT_NEAR(parts * 38, report["decode"]["seconds"].get<double>(), 1e-12);
}

TEST(Report, WritesTheTextOfItsTokens) {
  Batch batch;
  batch.start = test::SampleRun::info();
  batch.prompts = {{0, 0, 0, "tale", "Once"}};
  batch.pieces = {{1, " upon"}, {2, "\xc3"}, {3, "\xa9"}, {4, "\xff"}};
  for (const std::int32_t id : {1, 2, 3, 4})
    batch.tokens.push_back({0, 0, 0, static_cast<std::uint32_t>(id - 1), id, true});
  Trace trace;
  trace.append(batch);
  const auto report = make_report(trace);
  EXPECT_EQ(report["output"]["text"],
            " upon\xc3\xa9\xef\xbf\xbd");  // halves of a character join, a stray byte does not
  EXPECT_EQ(report["output"]["token_ids"], (nlohmann::ordered_json{1, 2, 3, 4}));
  EXPECT_NO_THROW(report.dump());
}

TEST(Report, OfARunThatHasNotBegunIsStillAReport) {
  const auto report = make_report(Trace());
  EXPECT_EQ(report["decode"]["tokens"], 0);
  EXPECT_TRUE(report["experts"]["decode"]["hit_rate"].is_null());
  EXPECT_TRUE(report["health"].contains("session.not_ended"));
}

TEST(Report, DiffersBetweenEqualRunsOnlyUnderWall) {
  Trace one = test::sample_trace(), other = test::sample_trace();
  one.wall = {{"started_at", "2026-11-22T10:00:00"}, {"seconds", "1.5"}};
  other.wall = {{"started_at", "2026-11-23T10:00:00"}, {"seconds", "2"}};
  auto a = make_report(one), b = make_report(other);
  EXPECT_NE(a, b);
  EXPECT_EQ(a["wall"]["seconds"], 1.5);
  EXPECT_EQ(a["wall"]["started_at"], "2026-11-22T10:00:00");
  a.erase("wall");
  b.erase("wall");
  EXPECT_EQ(a.dump(), b.dump());
}

TEST(Expectation, IsJudgedOnTheReport) {
  const nlohmann::ordered_json report = {
      {"decode", {{"tokens_per_s", 31.5}, {"label", "ESTIMATED"}, {"none", nullptr}}},
      {"epochs", {{{"tokens", 4}}}},
      {"health", {{"static.no_prior", {{"count", 2}}}}}};
  const auto holds = [&](const char* text) { return judge(parse_expectation(text), report).holds; };
  EXPECT_TRUE(holds("decode.tokens_per_s >= 31.5"));
  EXPECT_TRUE(holds("decode.tokens_per_s<=31.5"));
  EXPECT_FALSE(holds("decode.tokens_per_s > 31.5"));
  EXPECT_FALSE(holds("decode.tokens_per_s < 20"));
  EXPECT_TRUE(holds("  decode.tokens_per_s == 3.15e1  "));
  EXPECT_TRUE(holds("epochs.0.tokens == 4"));
  EXPECT_TRUE(holds("health.static.no_prior.count == 2"));
  EXPECT_FALSE(holds("decode.none >= 0"));
  EXPECT_NE(judge(parse_expectation("decode.tokens_per_s > 40"), report).text.find("31.5"), std::string::npos);
}

TEST(Expectation, RefusesWhatItDoesNotUnderstand) {
  for (const char* text :
       {"", "decode.tokens_per_s", "decode.tokens_per_s >=", ">= 3", "decode.tokens_per_s >= many",
        "decode.tokens_per_s => 3", "decode.tokens_per_s = 3", "decode .tokens >= 3", "a >= nan", "a >= 1 2"}) {
    EXPECT_THROW(parse_expectation(text), InputError) << text;
  }
}

TEST(Expectation, NamesWhatThereIsInsteadOfAnUnknownPath) {
  const nlohmann::ordered_json report = {{"decode", {{"tokens_per_s", 31.5}, {"label", "ESTIMATED"}}}};
  for (const char* text :
       {"decode.speed >= 1", "speed >= 1", "decode.label >= 1", "decode >= 1", "decode.tokens_per_s.x >= 1"}) {
    EXPECT_THROW(judge(parse_expectation(text), report), InputError) << text;
  }
  try {
    judge(parse_expectation("decode.speed >= 1"), report);
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("tokens_per_s"), std::string::npos) << error.what();
  }
}

TEST(ValidUtf8, ReplacesOnlyWhatIsNotText) {
  EXPECT_EQ(valid_utf8("gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80"), "gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80");
  EXPECT_EQ(valid_utf8("\x80"), "\xef\xbf\xbd");
  EXPECT_EQ(valid_utf8("\xed\xa0\x80"), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");  // a surrogate
  EXPECT_EQ(valid_utf8("\xc0\xaf"), "\xef\xbf\xbd\xef\xbf\xbd");                  // overlong
  EXPECT_EQ(valid_utf8("a\xe2\x82"), "a\xef\xbf\xbd\xef\xbf\xbd");                // cut off
}

}  // namespace
}  // namespace expertscope
