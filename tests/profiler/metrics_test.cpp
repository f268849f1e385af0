#include "profiler/metrics.h"

#include <gtest/gtest.h>

#include "profiler/attribution.h"
#include "tests/profiler/sample_run.h"

namespace expertscope {
namespace {

// A trace written by hand, a nanosecond at a time.
class TraceBuilder {
 public:
  TraceBuilder() {
    batch.start = test::SampleRun::info();
    batch.start->h2d_bytes_per_s = 2e9;
    batch.start->gpu_bytes_per_s = 1e9;
  }
  TraceBuilder& step(TimeNs start, TimeNs end, Phase phase = Phase::decode) {
    StepRecord s;
    s.start_ns = start;
    s.end_ns = end;
    s.step = static_cast<std::uint32_t>(batch.steps.size());
    s.tokens = s.sampled = 1;
    s.phase = phase;
    batch.steps.push_back(s);
    return *this;
  }
  TraceBuilder& work(TimeNs start, TimeNs end, WorkKind kind, Lane lane = Lane::gpu, std::int64_t bytes = 0) {
    WorkRecord w;
    w.start_ns = start;
    w.end_ns = end;
    w.kind = kind;
    w.lane = lane;
    w.bytes = bytes;
    w.step = batch.steps.empty() ? 0 : batch.steps.back().step;
    batch.works.push_back(w);
    return *this;
  }
  TraceBuilder& copy(TimeNs start, TimeNs end, CopyReason reason, std::int64_t bytes = 10, std::uint16_t expert = 0) {
    CopyRecord c;
    c.issued_ns = c.start_ns = start;
    c.end_ns = end;
    c.reason = reason;
    c.bytes = bytes;
    c.copy = static_cast<std::uint32_t>(batch.copies.size());
    c.layer = 0;
    c.expert = expert;
    c.slot = expert;
    batch.copies.push_back(c);
    return *this;
  }
  TraceBuilder& demand(TimeNs asked, TimeNs ready, std::uint16_t expert, DemandState state, Outcome outcome,
                       bool prefetched = false) {
    DemandRecord d;
    d.asked_ns = asked;
    d.ready_ns = ready;
    d.step = batch.steps.empty() ? 0 : batch.steps.back().step;
    d.expert = expert;
    d.picks = 1;
    d.state = state;
    d.outcome = outcome;
    d.prefetched = prefetched;
    batch.demands.push_back(d);
    return *this;
  }
  TraceBuilder& residency(TimeNs at, std::uint16_t expert, ResidencyChange change, CopyReason reason) {
    batch.residency.push_back({at, 0, 0, expert, expert, change, reason, false, 0});
    return *this;
  }
  Trace trace() const {
    Trace trace;
    trace.append(batch);
    return trace;
  }
  Batch batch;
};

TEST(Attribution, GivesEveryNanosecondToTheFirstThingThatHolds) {
  TraceBuilder b;
  b.step(0, 100);
  b.work(0, 10, WorkKind::attention);
  b.work(5, 20, WorkKind::expert, Lane::cpu);  // 10..20 under no kernel
  b.work(15, 30, WorkKind::wait_demand);       // 20..30 beyond the CPU's work
  b.work(30, 40, WorkKind::wait_prefetch);
  b.work(40, 45, WorkKind::wait_placement);
  b.work(45, 50, WorkKind::wait_activation);
  b.work(0, 55, WorkKind::routing_sync, Lane::host);  // 50..55 is all that nothing better claims
  b.work(55, 65, WorkKind::policy, Lane::host);
  b.work(65, 80, WorkKind::sampling, Lane::host);
  const Attribution a = attribute_decode(b.trace());
  EXPECT_EQ(a[TimePart::gpu_compute], 10);
  EXPECT_EQ(a[TimePart::cpu_experts], 10);
  EXPECT_EQ(a[TimePart::demand_wait], 10);
  EXPECT_EQ(a[TimePart::prefetch_wait], 15);
  EXPECT_EQ(a[TimePart::routing_sync], 10);
  EXPECT_EQ(a[TimePart::policy], 10);
  EXPECT_EQ(a[TimePart::sampling], 15);
  EXPECT_EQ(a[TimePart::profiler], 0);
  EXPECT_EQ(a[TimePart::remainder], 20);
  EXPECT_EQ(a.total_ns(), 100);
  EXPECT_EQ(a.tokens, 1u);
}

TEST(Attribution, OfStepsSumsToTheAttributionOfDecode) {
  const Trace trace = test::sample_trace();
  Attribution sum;
  for (const StepRecord& step : trace.steps) {
    if (step.phase == Phase::decode) sum += attribute_step(trace, step);
  }
  EXPECT_EQ(sum.ns, attribute_decode(trace).ns);
  EXPECT_EQ(sum.total_ns(), decode_numbers(trace).decode_ns);
}

TEST(Attribution, CutsAtTheEdgesOfASelection) {
  TraceBuilder b;
  b.step(0, 100).work(0, 100, WorkKind::attention);
  const Attribution a = attribute_decode(b.trace(), {20, 60});
  EXPECT_EQ(a[TimePart::gpu_compute], 40);
  EXPECT_EQ(a.tokens, 0u);  // the token came after the selection
}

TEST(Overlap, CountsCopyTimeUnderComputeAndCpuTimeUnderTheGpu) {
  TraceBuilder b;
  b.step(0, 100);
  b.work(0, 40, WorkKind::attention, Lane::gpu, 20);
  b.work(30, 60, WorkKind::expert, Lane::cpu);
  b.copy(20, 80, CopyReason::demand);
  b.step(100, 200, Phase::prefill);
  b.work(100, 200, WorkKind::attention);
  const Overlap o = overlap(b.trace());
  EXPECT_EQ(o.decode_ns, 100);
  EXPECT_DOUBLE_EQ(o.gpu_busy_share(), 0.4);
  EXPECT_DOUBLE_EQ(o.copy_hidden_share(), 40.0 / 60);
  EXPECT_DOUBLE_EQ(o.cpu_hidden_share(), 10.0 / 30);
  EXPECT_EQ(o.gpu_bytes, 20);
}

TEST(Transfers, CountAnOvertakenCopyOnceAndOtherTrafficApart) {
  TraceBuilder b;
  b.step(0, 100);
  b.copy(0, 10, CopyReason::placement, 7).copy(10, 20, CopyReason::demand, 5).copy(20, 25, CopyReason::input, 3);
  b.batch.copies[1].last = false;  // overtaken, and goes on:
  b.copy(30, 40, CopyReason::demand, 6);
  b.batch.copies[3].copy = 1;
  b.copy(40, 50, CopyReason::activation, 4);
  b.batch.copies[4].lane = Lane::d2h;
  const TransferTotals t = count_transfers(b.trace());
  EXPECT_EQ(t.count, 2u);
  EXPECT_EQ(t.bytes, 18);
  EXPECT_EQ(t.demand_bytes, 11);
  EXPECT_EQ(t.placement_bytes, 7);
  EXPECT_EQ(t.other_h2d_bytes, 3);
  EXPECT_EQ(t.d2h_bytes, 4);
  EXPECT_EQ(t.copy_ns, 30);
}

TEST(Transfers, CountAPrefetchAsWastedWhenItWasLostOrLeftUnused) {
  TraceBuilder b;
  b.step(0, 1000);
  b.copy(0, 10, CopyReason::prefetch, 1, 1);    // used
  b.copy(10, 20, CopyReason::prefetch, 2, 2);   // evicted before anybody came
  b.copy(20, 30, CopyReason::prefetch, 4, 3);   // there at the end, unused
  b.copy(30, 90, CopyReason::prefetch, 8, 4);   // waited for
  b.copy(90, 99, CopyReason::prefetch, 16, 1);  // fetched again after its eviction, unused this time
  b.residency(20, 2, ResidencyChange::loaded, CopyReason::prefetch)
      .residency(50, 2, ResidencyChange::evicted, CopyReason::prefetch);
  b.residency(85, 1, ResidencyChange::evicted, CopyReason::prefetch);
  b.demand(15, 16, 1, DemandState::hit, Outcome::gpu, true);
  b.demand(60, 95, 4, DemandState::late, Outcome::gpu, true);
  b.demand(100, 200, 2, DemandState::miss, Outcome::fetched);
  EXPECT_EQ(count_transfers(b.trace()).wasted_prefetch_bytes, 2);  // while it runs, the others may still be used
  b.batch.ended = true;
  EXPECT_EQ(count_transfers(b.trace()).wasted_prefetch_bytes, 2 + 4 + 16);
}

TEST(LinkUse, MeasuresTheRateWhileDemandsAreFetched) {
  TraceBuilder b;
  b.step(0, 100);
  b.copy(10, 30, CopyReason::demand, 40);
  b.work(5, 32, WorkKind::wait_demand);  // the wait began before the copy and ended after it
  b.copy(50, 60, CopyReason::prefetch, 1000);
  const LinkUse use = link_while_fetching(b.trace());
  EXPECT_EQ(use.demand_bytes, 40);
  EXPECT_EQ(use.fetching_ns, 27);
  EXPECT_DOUBLE_EQ(use.bytes_per_s(), 40e9 / 27);
}

TEST(Experts, AreCountedForPrefillAndDecodeApart) {
  TraceBuilder b;
  b.step(0, 100, Phase::prefill);
  b.demand(1, 2, 0, DemandState::miss, Outcome::fetched);
  b.step(100, 200);
  b.demand(101, 102, 0, DemandState::hit, Outcome::gpu).demand(103, 104, 1, DemandState::miss, Outcome::cpu);
  const Trace trace = b.trace();
  EXPECT_EQ(count_experts(trace, Phase::prefill).misses, 1u);
  const ExpertCounts decode = count_experts(trace, Phase::decode);
  EXPECT_EQ(decode.demands, 2u);
  EXPECT_EQ(decode.hits, 1u);
  EXPECT_EQ(decode.cpu, 1u);
  EXPECT_DOUBLE_EQ(decode.hit_rate(), 0.5);
  EXPECT_EQ(count_experts(trace, Phase::decode, {103, 200}).demands, 1u);
}

TEST(Experts, OfAStepThatNeverEndedAreLeftOut) {
  TraceBuilder b;
  b.step(0, 100).demand(1, 2, 0, DemandState::hit, Outcome::gpu);
  b.demand(101, 102, 0, DemandState::hit, Outcome::gpu);
  b.batch.demands.back().step = 1;
  EXPECT_EQ(count_experts(b.trace(), Phase::decode).demands, 1u);
}

TEST(Decode, HasNearestRankPercentilesOfTokenTimes) {
  TraceBuilder b;
  TimeNs now = 0;
  for (TimeNs length = 1; length <= 100; ++length, now += 200) b.step(now, now + length);
  const DecodeNumbers n = decode_numbers(b.trace());
  EXPECT_EQ(n.tokens, 100u);
  EXPECT_EQ(n.decode_ns, 5050);
  EXPECT_EQ(n.p50_ns, 50);
  EXPECT_EQ(n.p90_ns, 90);
  EXPECT_EQ(n.p99_ns, 99);
}

TEST(Prefill, MeasuresTheFirstTokenFromTheFirstChunk) {
  TraceBuilder b;
  b.step(0, 100, Phase::prefill).step(110, 200, Phase::prefill);
  b.batch.steps[0].sampled = 0;
  b.batch.steps[1].first_position = 512;
  const PrefillNumbers n = prefill_numbers(b.trace());
  EXPECT_EQ(n.prefill_ns, 190);
  EXPECT_DOUBLE_EQ(n.first_token_ns, 200);
}

TEST(ExpertTotals, SayWhatHappenedToEachExpertAndWhetherItIsResident) {
  const Trace trace = test::sample_trace();
  const auto cells = expert_totals(trace);
  ASSERT_EQ(cells.size(), 16u);
  std::uint64_t demands = 0, hits = 0, residents = 0;
  std::int64_t bytes = 0;
  for (const ExpertTotals& cell : cells) {
    demands += cell.demands;
    hits += cell.hits;
    bytes += cell.copied_bytes;
    residents += cell.resident ? 1 : 0;
  }
  EXPECT_EQ(demands, trace.demands.size());
  EXPECT_EQ(hits, count_experts(trace, Phase::prefill).hits + count_experts(trace, Phase::decode).hits);
  EXPECT_EQ(bytes, count_transfers(trace).bytes);
  EXPECT_EQ(residents, static_cast<std::uint64_t>(test::SampleRun::kSlots));
}

TEST(Ranges, OfEpochsCoverTheSessionOnce) {
  const Trace trace = test::sample_trace();
  std::uint64_t tokens = 0;
  for (std::size_t i = 0; i < trace.epochs.size(); ++i)
    tokens += decode_numbers(trace, range_of_epoch(trace, i)).tokens;
  EXPECT_EQ(tokens, decode_numbers(trace).tokens);
}

TEST(DeviceLoad, IsTheShareOfALayersPicksOnItsBusiestGpu) {
  TraceBuilder b;
  const auto picks = [&](std::uint16_t layer, std::uint8_t device, std::uint16_t count) {
    b.demand(10, 20, static_cast<std::uint16_t>(b.batch.demands.size()), DemandState::hit, Outcome::gpu);
    DemandRecord& d = b.batch.demands.back();
    d.layer = layer, d.device = device, d.picks = count;
  };
  b.step(0, 100);
  picks(0, 0, 3), picks(0, 0, 3), picks(0, 1, 2);  // 6 of 8
  picks(1, 0, 2), picks(1, 1, 2);                  // half
  b.step(100, 200, Phase::prefill);
  picks(0, 2, 5);  // all
  const DeviceLoad decode = device_load(b.trace(), Phase::decode);
  EXPECT_EQ(decode.layers, 2U);
  EXPECT_DOUBLE_EQ(decode.mean_largest(), (0.75 + 0.5) / 2);
  EXPECT_DOUBLE_EQ(decode.largest, 0.75);
  EXPECT_DOUBLE_EQ(device_load(b.trace(), Phase::prefill).largest, 1);
}

}  // namespace
}  // namespace expertscope
