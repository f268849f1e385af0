#include "profiler/series.h"

#include <chrono>

#include <gtest/gtest.h>

#include "tests/profiler/sample_run.h"

namespace expertscope {
namespace {

TEST(StepSummaries, AreTheSameFollowedLiveAsComputedAtTheEnd) {
  const Batch whole = test::sample_batch();
  Trace trace;
  StepSummaries live;
  Batch start;
  start.start = whole.start;
  trace.append(start);
  std::size_t work = 0, demand = 0, copy = 0;
  for (const StepRecord& step : whole.steps) {
    Batch piece;
    for (; work < whole.works.size() && whole.works[work].step == step.step; ++work)
      piece.works.push_back(whole.works[work]);
    for (; demand < whole.demands.size() && whole.demands[demand].step == step.step; ++demand) {
      piece.demands.push_back(whole.demands[demand]);
    }
    piece.steps.push_back(step);
    trace.append(piece);
    live.update(trace);
    // Copies arrive one step late, as those do that are still on their way when a step ends.
    Batch late;
    for (; copy < whole.copies.size() && whole.copies[copy].step == step.step; ++copy)
      late.copies.push_back(whole.copies[copy]);
    trace.append(late);
    live.update(trace);
  }
  StepSummaries afterwards;
  afterwards.update(trace);
  ASSERT_EQ(live.steps().size(), afterwards.steps().size());
  for (std::size_t i = 0; i < live.steps().size(); ++i) {
    EXPECT_EQ(live.steps()[i].link_bytes, afterwards.steps()[i].link_bytes) << i;
    EXPECT_EQ(live.steps()[i].copy_ns, afterwards.steps()[i].copy_ns) << i;
    EXPECT_EQ(live.steps()[i].copy_hidden_ns, afterwards.steps()[i].copy_hidden_ns) << i;
    EXPECT_EQ(live.steps()[i].part_ns, afterwards.steps()[i].part_ns) << i;
    EXPECT_EQ(live.steps()[i].hits, afterwards.steps()[i].hits) << i;
  }
}

TEST(StepSummaries, AgreeWithTheReportsAttribution) {
  const Trace trace = test::sample_trace();
  StepSummaries summaries;
  summaries.update(trace);
  Attribution sum;
  for (const StepSummary& s : summaries.steps()) {
    if (s.phase != Phase::decode) continue;
    for (std::size_t i = 0; i < s.part_ns.size(); ++i) sum.ns[i] += s.part_ns[i];
  }
  EXPECT_EQ(sum.ns, attribute_decode(trace).ns);
}

StepSummary decode_step(TimeNs start, TimeNs end, std::uint32_t hits, std::uint32_t demands) {
  StepSummary s;
  s.start_ns = start;
  s.end_ns = end;
  s.phase = Phase::decode;
  s.tokens = 1;
  s.hits = hits;
  s.demands = demands;
  return s;
}

TEST(Curves, HaveTheLeastTheMeanAndTheMostOfEachBin) {
  const std::vector<StepSummary> steps = {decode_step(0, 10, 1, 4), decode_step(10, 40, 4, 4),
                                          decode_step(140, 150, 0, 4)};
  const auto rate = bin_curve(steps, Curve::tokens_per_s, CurveAxis::time_ns, 0, 200, 2);
  ASSERT_EQ(rate.size(), 2u);
  EXPECT_EQ(rate[0].steps, 2u);
  EXPECT_DOUBLE_EQ(rate[0].max, 1e8);
  EXPECT_NEAR(rate[0].min, 1e9 / 30, 1);
  EXPECT_NEAR(rate[0].mean, 2e9 / 40, 1);  // tokens per time, not the mean of rates
  const auto hits = bin_curve(steps, Curve::hit_rate, CurveAxis::time_ns, 0, 200, 2);
  EXPECT_DOUBLE_EQ(hits[0].mean, 5.0 / 8);
  EXPECT_DOUBLE_EQ(hits[1].mean, 0);
  EXPECT_EQ(bin_curve(steps, Curve::hit_rate, CurveAxis::time_ns, 50, 100, 3)[1].steps, 0u);
}

TEST(Curves, AreQuickEnoughForALiveWindowAtAMillionSteps) {
  std::vector<StepSummary> steps;
  for (TimeNs i = 0; i < 1'000'000; ++i) {
    steps.push_back(decode_step(i * 100, i * 100 + 90, 3, 4));
    steps.back().first_generated = static_cast<std::uint32_t>(i);
  }
  const auto start = std::chrono::steady_clock::now();
  for (const Curve curve : {Curve::tokens_per_s, Curve::hit_rate, Curve::link_bytes_per_s, Curve::stall_s_per_token}) {
    bin_curve(steps, curve, CurveAxis::time_ns, 0, 1e8, 1000);
  }
  const double ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  std::printf("four curves of 1 M steps: %.1f ms\n", ms);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && defined(NDEBUG)
  EXPECT_LT(ms, 200);
#endif
}

}  // namespace
}  // namespace expertscope
