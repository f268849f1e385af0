// Whether the device's own tracer and the engine tell the same story.
#include "profiler/cupti_metrics.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "profiler/health.h"
#include "profiler/identities.h"
#include "profiler/report.h"
#include "tests/profiler/gpu_sample.h"

namespace expertscope {
namespace {

Trace trace_of(const Batch& batch) {
  Trace trace;
  trace.append(batch);
  return trace;
}

bool health_says(const Trace& trace, const std::string& code) {
  return std::ranges::any_of(health_of(trace), [&](const HealthNote& note) { return note.code == code; });
}

TEST(CuptiReport, IsThereOnlyWhenCuptiRecorded) {
  EXPECT_FALSE(make_report(test::sample_trace()).contains("cupti"));
  EXPECT_TRUE(make_report(trace_of(test::gpu_sample_batch())).contains("cupti"));
}

TEST(CuptiReport, SaysThatBothSawTheSameBytes) {
  const Trace trace = trace_of(test::gpu_sample_batch());
  const auto report = make_report(trace);
  const auto& block = report["cupti"];
  EXPECT_EQ(block["expert_copy_bytes"], report["transfers"]["bytes"]);
  EXPECT_EQ(block["expert_copy_bytes_equal"], true);
  EXPECT_EQ(block["joined_share"], 1.0);
  EXPECT_EQ(block["kernels"], trace.gpu_totals.kernels);
  EXPECT_EQ(block["copies"], trace.gpu_copies.size());
  EXPECT_EQ(block["memsets"], 1);
  EXPECT_EQ(block["synchronizations"], 1);
  EXPECT_EQ(block["dropped"], 0);
  EXPECT_DOUBLE_EQ(block["synchronization_seconds"].get<double>(), 100e-9);
  EXPECT_FALSE(health_says(trace, "identity.cupti_expert_bytes"));
}

TEST(CuptiReport, TellsTheResidualOfTheClocksInMicroseconds) {
  Batch batch = test::sample_batch();
  test::add_gpu_records(batch, 2'500);
  const auto block = make_report(trace_of(batch))["cupti"]["clock_residual_us"];
  EXPECT_GT(block["copies"], 10);
  EXPECT_DOUBLE_EQ(block["median"].get<double>(), 2.5);
  EXPECT_DOUBLE_EQ(block["max"].get<double>(), 2.5);
  EXPECT_DOUBLE_EQ(block["shift_median"].get<double>(), -2.5);
}

TEST(CuptiIdentity, FailsWhenACopyIsMissing) {
  Batch batch = test::gpu_sample_batch();
  batch.gpu.copies.pop_back();
  const Trace trace = trace_of(batch);
  EXPECT_EQ(make_report(trace)["cupti"]["expert_copy_bytes_equal"], false);
  EXPECT_TRUE(health_says(trace, "identity.cupti_expert_bytes"));
}

TEST(CuptiIdentity, IsNotClaimedWhenCuptiLostRecords) {
  Batch batch = test::gpu_sample_batch();
  batch.gpu.copies.pop_back();
  batch.health.push_back({health_code::kCuptiDropped, Severity::loss, 5, "lost"});
  const Trace trace = trace_of(batch);
  EXPECT_TRUE(make_report(trace)["cupti"]["expert_copy_bytes_equal"].is_null());
  EXPECT_EQ(make_report(trace)["cupti"]["dropped"], 5);
  EXPECT_FALSE(health_says(trace, "identity.cupti_expert_bytes"));
}

TEST(CuptiIdentity, IsNotClaimedWhileTheRunGoesOn) {
  Batch batch = test::gpu_sample_batch();
  batch.gpu.copies.pop_back();
  batch.ended = false;
  EXPECT_FALSE(health_says(trace_of(batch), "identity.cupti_expert_bytes"));
}

TEST(CuptiIdentity, CountsNeitherOtherCopiesNorTheWayBack) {
  Batch batch = test::gpu_sample_batch();
  GpuCopyRecord other = batch.gpu.copies.front();
  other.tag = pack({.step = 1, .is_copy = true, .reason = CopyReason::input});
  batch.gpu.copies.push_back(other);
  other.tag = 0;
  batch.gpu.copies.push_back(other);
  other = batch.gpu.copies.front();
  other.copy_kind = kCopyDeviceToHost;
  batch.gpu.copies.push_back(other);
  EXPECT_EQ(make_report(trace_of(batch))["cupti"]["expert_copy_bytes_equal"], true);
}

TEST(CuptiHealth, TellsOfKernelsThatBelongToNothing) {
  Batch batch = test::gpu_sample_batch();
  EXPECT_FALSE(health_says(trace_of(batch), health_code::kCuptiUnjoined));
  for (std::size_t i = 0; i < batch.gpu.kernels.size(); i += 4) batch.gpu.kernels[i].tag = 0;
  batch.gpu_totals = totals_of(batch.gpu);
  EXPECT_TRUE(health_says(trace_of(batch), health_code::kCuptiUnjoined));
  EXPECT_LT(make_report(trace_of(batch))["cupti"]["joined_share"].get<double>(), 0.999);
}

TEST(CuptiHealth, TellsOfClocksThatDisagree) {
  Batch batch = test::sample_batch();
  test::add_gpu_records(batch, 200'000);
  EXPECT_TRUE(health_says(trace_of(batch), health_code::kCuptiClock));
}

}  // namespace
}  // namespace expertscope
