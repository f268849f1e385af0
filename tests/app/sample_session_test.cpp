// The session of a real GPU that ships: everyone can open it, and it says what was measured there.
#include <gtest/gtest.h>

#include "engine/assets.h"
#include "profiler/report.h"
#include "storage/reader.h"

namespace expertscope {
namespace {

TEST(SampleSession, IsReplayedUnderItsOwnPoliciesOneAfterTheOther) {
  SessionReader reader((assets_dir() / "sessions" / "h200-demo.expertscope").string());
  const RecordedRun run = reader.read_recorded_run();
  EXPECT_EQ(why_not(run, {}), "");
  EXPECT_NE(why_not(run, {.policy = parse_policy_spec("lookahead")}), "");
}

TEST(SampleSession, IsARealRunOnAGpuWithEveryCopyAccountedFor) {
  SessionReader reader((assets_dir() / "sessions" / "h200-demo.expertscope").string());
  Trace trace;
  trace.append(reader.read_all());
  EXPECT_EQ(trace.info.machine_kind, "cuda");
  EXPECT_EQ(trace.info.profile_name, "NVIDIA H200");
  EXPECT_GE(trace.epochs.size(), 5U);
  const nlohmann::ordered_json report = make_report(trace);
  EXPECT_EQ(report["decode"]["tokens"], 119);
  EXPECT_EQ(report["decode"]["label"], "MEASURED");
  EXPECT_EQ(report["cupti"]["expert_copy_bytes"], report["transfers"]["bytes"]);
  EXPECT_EQ(report["cupti"]["joined_share"], 1.0);
  double total = 0;
  for (const auto& [part, seconds] : report["attribution_seconds_per_token"].items()) total += seconds.get<double>();
  EXPECT_LT(report["attribution_seconds_per_token"]["remainder"].get<double>(), 0.02 * total);
}

}  // namespace
}  // namespace expertscope
