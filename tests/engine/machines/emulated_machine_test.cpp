// Does the modelled machine behave like the machine it describes?
#include <algorithm>

#include <gtest/gtest.h>

#include "engine/error.h"
#include "tests/engine/emulated_run.h"

namespace expertscope {
namespace {

RecordedEvents run_on(const MachineProfile& profile, const std::string& policy, double ratio,
                      const std::string& cost_shape, int tokens = 48) {
  EmulatedRun run(policy, ratio, profile, cost_shape);
  run.generate(kTale, tokens);
  return run.events;
}

// Bytes per second over the time in which a demand copy of a decode step is under way.
double link_rate_while_fetching(const RecordedEvents& e) {
  std::vector<std::pair<TimeNs, TimeNs>> busy;
  double bytes = 0;
  for (const CopyRecord& c : e.copies) {
    if (c.reason != CopyReason::demand || e.steps[c.step].phase != Phase::decode) continue;
    bytes += static_cast<double>(c.bytes);
    busy.emplace_back(c.issued_ns, c.end_ns);
  }
  std::sort(busy.begin(), busy.end());
  TimeNs covered = 0, until = 0;
  for (const auto& [start, end] : busy) {
    covered += std::max<TimeNs>(0, end - std::max(start, until));
    until = std::max(until, end);
  }
  return bytes / (static_cast<double>(covered) / 1e9);
}

TEST(EmulatedMachine, OnDemandDecodeOfABigModelIsBoundByTheLink) {
  const MachineProfile full = load_profile("rtx4090-pcie4");
  MachineProfile half = full;
  half.link.h2d_bytes_per_s /= 2;
  const RecordedEvents fast = run_on(full, "on-demand", 0.125, "mixtral-8x7b-bf16"),
                       slow = run_on(half, "on-demand", 0.125, "mixtral-8x7b-bf16");
  EXPECT_GE(link_rate_while_fetching(fast), 0.85 * full.link.h2d_bytes_per_s);
  EXPECT_NEAR(slow.decode_tokens_per_s() / fast.decode_tokens_per_s(), 0.5, 0.03);
}

TEST(EmulatedMachine, ResidentDecodeIsBoundByDeviceMemoryAndNotByTheLink) {
  const MachineProfile full = load_profile("h100-pcie5");
  MachineProfile slow_link = full, slow_memory = full;
  slow_link.link.h2d_bytes_per_s /= 2;
  slow_memory.gpus[0].memory_bytes_per_s /= 2;
  const double rate = run_on(full, "resident", 1, "mixtral-8x7b-bf16").decode_tokens_per_s();
  EXPECT_DOUBLE_EQ(run_on(slow_link, "resident", 1, "mixtral-8x7b-bf16").decode_tokens_per_s(), rate);
  EXPECT_NEAR(run_on(slow_memory, "resident", 1, "mixtral-8x7b-bf16").decode_tokens_per_s() / rate, 0.5, 0.03);
}

TEST(EmulatedMachine, LookaheadBeatsOnDemandWhereALayerLastsLongerThanTheCopyOfOneExpert) {
  MachineProfile profile = load_profile("h100-pcie5");
  profile.gpus[0].memory_bytes_per_s /= 4;  // a slow GPU on a fast link
  const double on_demand = run_on(profile, "on-demand", 0.5, "qwen3-30b-a3b-q4", 128).decode_tokens_per_s();
  const double lookahead = run_on(profile, "lookahead", 0.5, "qwen3-30b-a3b-q4", 128).decode_tokens_per_s();
  EXPECT_GT(lookahead, 1.02 * on_demand);
}

TEST(EmulatedMachine, ADemandCopyOvertakesQueuedPrefetches) {
  const RecordedEvents e =
      run_on(load_profile("rtx4090-pcie4"), "lookahead:prefetcher.depth=3", 0.5, "mixtral-8x7b-q4");
  // A prefetch that was issued before a demand and ended after it, though both were in the same queue.
  int overtaken = 0;
  for (const CopyRecord& demand : e.copies) {
    if (demand.reason != CopyReason::demand) continue;
    for (const CopyRecord& prefetch : e.copies) {
      if (prefetch.reason == CopyReason::prefetch && prefetch.issued_ns < demand.issued_ns &&
          prefetch.start_ns >= demand.end_ns)
        ++overtaken;
    }
  }
  EXPECT_GT(overtaken, 0);
}

TEST(EmulatedMachine, ADemandThatWaitsForItsPrefetchIsLateAndCopiedOnce) {
  const RecordedEvents e = run_on(load_profile("rtx4090-pcie4"), "lookahead", 0.25, "mixtral-8x7b-q4");
  std::int64_t late = 0;
  for (const DemandRecord& d : e.demands) {
    if (d.state != DemandState::late) continue;
    ++late;
    EXPECT_EQ(d.outcome, Outcome::gpu);
    for (const CopyRecord& c : e.copies) {
      const bool same =
          c.reason == CopyReason::demand && c.layer == d.layer && c.expert == d.expert && c.step == d.step;
      EXPECT_FALSE(same) << "expert " << d.expert << " of layer " << d.layer << " was copied again in step " << d.step;
    }
  }
  EXPECT_GT(late, 0);
}

TEST(EmulatedMachine, IntervalsOfALaneDoNotOverlap) {
  for (const char* policy : {"on-demand", "static", "lookahead:prefetcher.depth=2"}) {
    const RecordedEvents e = run_on(load_profile("rtx4090-pcie4"), policy, 0.25, "mixtral-8x7b-q4");
    std::map<Lane, TimeNs> end;
    for (const WorkRecord& w : e.works) {
      EXPECT_GE(w.start_ns, end[w.lane]) << policy << " " << name(w.kind);
      EXPECT_GE(w.end_ns, w.start_ns);
      end[w.lane] = w.end_ns;
    }
    end.clear();
    for (const CopyRecord& c : e.copies) {
      EXPECT_GE(c.start_ns, end[c.lane]);
      EXPECT_GE(c.start_ns, c.issued_ns);
      end[c.lane] = c.end_ns;
    }
  }
}

TEST(EmulatedMachine, TheCacheNeverHoldsMoreThanItsSlots) {
  for (const char* policy : {"on-demand", "lookahead:prefetcher.depth=3", "on-demand:capacity=global"}) {
    const RecordedEvents e = run_on(load_profile("rtx4090-pcie4"), policy, 0.125, "mixtral-8x7b-q4");
    std::map<std::uint16_t, int> in_slot;
    for (const ResidencyRecord& r : e.residency) {
      int& there = in_slot[r.slot];
      there += r.change == ResidencyChange::loaded ? 1 : -1;
      EXPECT_TRUE(there == 0 || there == 1) << policy << ": slot " << r.slot << " holds " << there << " experts";
    }
    EXPECT_LE(in_slot.size(), 24U);
  }
}

TEST(EmulatedMachine, ThreadsChangeNoTimeAndNoToken) {
  const auto times = [](int threads) {
    EmulatedRun run("lookahead", 0.25, "rtx4090-pcie4", "mixtral-8x7b-q4", threads);
    run.options.sampling = {.temperature = 0.8, .top_p = 0.9, .seed = 7};
    auto ids = run.generate(kTale, 32);
    std::vector<TimeNs> out;
    for (const StepRecord& s : run.events.steps) out.push_back(s.end_ns);
    for (std::int32_t id : ids) out.push_back(id);
    for (const RouteRecord& r : run.events.routes) out.push_back(static_cast<TimeNs>(r.weight[0] * 1e9F));
    return out;
  };
  EXPECT_EQ(times(1), times(2));
}

std::string refusal(const std::string& policy, double ratio, const std::string& profile, const std::string& shape) {
  try {
    EmulatedRun run(policy, ratio, profile, shape);
    run.runner();
  } catch (const InputError& e) {
    return e.what();
  }
  return "accepted";
}

TEST(EmulatedMachine, RefusesAModelThatDoesNotFitAndGivesTheSums) {
  const std::string gpu = refusal("resident", 1, "rtx4090-pcie4", "mixtral-8x7b-bf16");
  EXPECT_NE(gpu.find("GPU memory has 25.76 GB"), std::string::npos) << gpu;
  EXPECT_NE(gpu.find("192 expert slots 67.65"), std::string::npos) << gpu;
  MachineProfile small_host = load_profile("rtx4090-pcie4");
  small_host.host.memory_bytes = std::int64_t{32} << 30;
  EXPECT_THROW(EmulatedRun("on-demand", 0.125, small_host, "mixtral-8x7b-bf16"), InputError);
}

TEST(EmulatedMachine, WithUnifiedMemoryNoCopyTakesTime) {
  const RecordedEvents e = run_on(load_profile("jetson-orin"), "on-demand", 0.25, "mixtral-8x7b-q4");
  for (const CopyRecord& c : e.copies) EXPECT_EQ(c.start_ns, c.end_ns);
  EXPECT_GT(e.count(DemandState::miss), 0);
}

TEST(MachineProfile, EveryShippedProfileSurvivesARoundTrip) {
  for (const std::string& name : shipped_profiles()) {
    const MachineProfile p = load_profile(name);
    EXPECT_EQ(p.name, name);
    EXPECT_FALSE(p.source.empty());
    EXPECT_EQ(to_json(parse_profile(to_json(p), "copy")), to_json(p));
  }
}

TEST(MachineProfile, RefusesWhatMakesNoSense) {
  const std::string good = to_json(load_profile("rtx4090-pcie4"));
  const auto refused = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    const std::size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
    try {
      parse_profile(text, "mine.json");
    } catch (const InputError& e) {
      return std::string(e.what());
    }
    return std::string("accepted");
  };
  EXPECT_EQ(refused("\"latency_s\": 8e-06", "\"latency_s\": -1"), "mine.json.link.latency_s: is -1, must be 0 to 10");
  EXPECT_EQ(refused("\"latency_s\": 8e-06", "\"latency_s\": \"fast\""), "mine.json.link.latency_s: must be a number");
  EXPECT_EQ(refused("\"launch_s\"", "\"lunch_s\""), "mine.json.gpus[0].launch_s: is missing");
  EXPECT_EQ(refused("\"threads\": 16", "\"threads\": 16, \"colour\": 1"),
            "mine.json.host.colour: is not a known key: remove it or correct its spelling");
  EXPECT_NE(refused("\"gpus\": [", "\"gpus\": [],\"x\":["), "accepted");
  EXPECT_NE(refused("{", ""), "accepted");
  EXPECT_THROW(load_profile("gtx1080"), InputError);
  EXPECT_THROW(load_profile("/nowhere/profile.json"), InputError);
}

}  // namespace
}  // namespace expertscope
